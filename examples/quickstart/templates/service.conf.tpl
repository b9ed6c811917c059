# Written by moorfast; changes made by hand show up in `moorfast drift`.
name = ${name}
listen = 127.0.0.1:${port}
greeting = ${greeting}

log.level = info
log.format = json
