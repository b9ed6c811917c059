node_ip: ${node_ip}
%{ for r in roles ~}
- ${r}
%{ endfor ~}
