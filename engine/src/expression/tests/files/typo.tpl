a: ${node_ip}
b: ${nodeip}
