[Unit]
Description=Routes to the pods of the other machines
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
%{ for subnet, address in routes ~}
ExecStart=/usr/sbin/ip route replace ${subnet} via ${address}
ExecStop=-/usr/sbin/ip route delete ${subnet} via ${address}
%{ endfor ~}

[Install]
WantedBy=multi-user.target
