[Unit]
Description=Routes to the pods of the other machines
After=network-online.target
Wants=network-online.target

# The routes have the protocol 87, which nothing else uses. A restart changes only the routes that differ: those to machines that left are deleted.
[Service]
Type=oneshot
RemainAfterExit=yes
%{ for subnet, address in routes ~}
ExecStart=/usr/sbin/ip route replace ${subnet} via ${address} proto 87
%{ endfor ~}
ExecStart=/bin/sh -c 'ip route show proto 87 | while read -r subnet _; do case " ${join(" ", keys(routes))} " in *" $$subnet "*) ;; *) ip route delete "$$subnet" proto 87 ;; esac; done'

[Install]
WantedBy=multi-user.target
