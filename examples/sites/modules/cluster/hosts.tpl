# Cluster ${cluster}
%{ for n in nodes ~}
${n.vars.address} ${n.name}
%{ endfor ~}
