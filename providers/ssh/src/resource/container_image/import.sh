# shellcheck shell=sh disable=SC2086,SC2116,SC2154
# Imports the image `$I` from the archive `$T`, whose SHA-256 is `$sha256`, into the containerd namespace `$C`. A label of the image holds the digest of
# the archive. An archive that does not have the image is refused before anything is imported.
if [ -z "$(command -v ctr)" ]; then
  printf %s 'install containerd with ssh_package' | blob help
  fail failed 'ctr is not installed'
fi
entries() { tar -xOf "$T" manifest.json 2>/dev/null || tar -xOf "$T" index.json 2>/dev/null || true; }
X=$(entries | tr -d '\134' | grep -o '"[^" ]*/[^" ]*[:@][^" ]*"' | tr -d '"' | sort -u || true)
case "
$X
" in
*"
$I
"*) ;;
*)
  if [ -n "$X" ]; then printf '%s' "its images are $(echo $X)"; else printf %s 'it names no image: docker save NAME writes the name'; fi | blob help
  fail invalid "the archive has no image $I"
  ;;
esac
images import "$T" >&2
# The CRI plugin of containerd, which the kubelet uses, replaces the labels of a new image a moment after its import.
if [ "$C" = k8s.io ]; then
  tries=50
  while case $(list_image) in *io.cri-containerd.image=managed*) false ;; esac && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1)); sleep 0.1
  done
fi
D=$(digest)
[ -n "$D" ] || fail failed "containerd has no image $I after the import"
images label "$I" "moorfast.archive=$sha256@$D" >/dev/null
