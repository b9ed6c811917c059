# shellcheck shell=sh disable=SC2154
# Shell that fails because `$U` does not exist. If `$U` is an alias, the error names the unit.
for root in /etc /usr/local/lib /usr/lib /lib; do
  for file in "$root"/systemd/system/*."${U##*.}"; do
    [ ! -f "$file" ] || while read -r line; do
      case "${line%%=*}  ${line#*=} " in 'Alias '*" $U "*) fail failed "the unit does not exist now: it is an alias that exists only while ${file##*/} is enabled (name ${file##*/})" ;; esac
    done < "$file"
  done
done 2>/dev/null
fail failed 'the unit does not exist (install its package first, or set content)'
