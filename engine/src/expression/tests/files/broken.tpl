a: ${node_ip
b: 1
