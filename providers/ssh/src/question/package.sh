# shellcheck shell=sh
# Reports the packages "$@" that the node has, each as a line: its name, its architecture, its status, its version.
versions() { dpkg-query -W -f '${Package} ${Architecture} ${db:Status-Status} ${Version}\n' -- "$@" 2>/dev/null || true; }
if [ -x /usr/bin/dnf ] && [ ! -x /usr/bin/apt-get ]; then
  versions() {
    X="
$(rpm -q --qf '%{NAME} %{ARCH} installed %{VERSION}-%{RELEASE}\n' -- "$@" 2>/dev/null || true)
"
    printf %s "$X"
    for A do
      case $X in
      *"
$A "* | *"
package $A is not installed
"*) ;;
      # The name has another form, such as NAME.ARCH.
      *) rpm -q --qf "$A - installed %{VERSION}-%{RELEASE}\n" -- "$A" 2>/dev/null || true ;;
      esac
    done
  }
elif [ ! -x /usr/bin/apt-get ]; then
  fail failed 'the node has neither apt nor dnf'
fi
report versions "$@"
