# shellcheck shell=sh disable=SC2154,SC2034
# Shell that reports the facts besides those of machine.sh. A missing fact is an empty text.
say() { printf %s "$2" | blob "$1"; }
say hostname "$(uname -n)"
say kernel "$(uname -r)"
say architecture "$(uname -m)"
say os_release "$(cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null || true)"
say cpus "$(nproc 2>/dev/null || true)"
say memory "$(while read -r k v u; do case $k in MemTotal:) echo "$v"; break ;; esac; done < /proc/meminfo)"
say swap "$(while read -r f t r; do case $f in Filename) ;; *) echo "$f" ;; esac; done < /proc/swaps)"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then say cgroup_version 2; else say cgroup_version 1; fi
say systemd "$(systemctl --version 2>/dev/null | head -n 1 || true)"
say addresses "$(ip -o addr show scope global 2>/dev/null | while read -r n i f a r; do echo "${a%%/*}"; done || true)"
[ -n "$(command -v ip)" ] || say addresses "$(hostname -I 2>/dev/null | tr ' ' '\n' || true)"
if [ -x /usr/bin/apt-get ]; then say package_manager apt; elif [ -x /usr/bin/dnf ]; then say package_manager dnf; else say package_manager ''; fi
for k in /etc/ssh/ssh_host_*_key.pub; do
  if [ -r "$k" ]; then ssh-keygen -l -E sha256 -f "$k" 2>/dev/null | { read -r b f r; printf %s "$f" | blob host_key; } || true; fi
done
