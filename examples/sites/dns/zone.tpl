%{ for name, address in addresses ~}
api  300 IN A ${address} ; ${name}
%{ endfor ~}
