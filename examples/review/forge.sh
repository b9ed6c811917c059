#!/bin/sh
# Simulates a forge on this machine, to try the workflow files without one:
#
#   forge.sh github|gitlab new FOLDER        create a forge in the folder `forge`, with the manifest in FOLDER
#   forge.sh github|gitlab push FOLDER       push FOLDER to the pull request: runs the job `plan`
#   forge.sh github|gitlab approve           approve the pull request: runs the job `apply`
#   forge.sh github|gitlab comments          print the comments of the pull request
#
# It runs the commands of github/moorfast.yml or gitlab/moorfast.gitlab-ci.yml in a fresh checkout, passes artifacts between the
# jobs and serves the comments like the forge. Needs git, curl, jq and python3. The jobs get all variables MOORFAST_*.
set -eu

unset GITLAB_CI GITHUB_ACTIONS
here=$(cd "$(dirname "$0")" && pwd)
forge=$PWD/forge
kind=${1:-}
step=${2:-}

usage() {
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 1
}

# lines JOB : prints the commands of the job in the workflow file.
lines() {
	case $kind in
	github) sed -n "/^  $1:/,/^  [a-z]/s/^ *run: //p" "$here/github/moorfast.yml" ;;
	gitlab) sed -n "/^$1:/,/^[a-z]*:\$/{/script:/,/:/s/^ *- \(\.\/.*\)/\1/p;}" "$here/gitlab/moorfast.gitlab-ci.yml" ;;
	esac
}

new() {
	mkdir -p "$forge/comments" "$forge/artifacts"
	git init -q -b main --bare "$forge/repository.git"
	push_commit "$1" main
}

# push_commit FOLDER BRANCH
push_commit() {
	rm -rf "$forge/push"
	git init -q -b "$2" "$forge/push"
	cp -R "$1/." "$forge/push/"
	cp "$here/moorfast-ci" "$forge/push/"
	git -C "$forge/push" add -A
	git -C "$forge/push" -c user.name=me -c user.email=me@example.org commit -q -m "A change"
	git -C "$forge/push" push -q -f "$forge/repository.git" "HEAD:$2"
}

# job NAME : checks out the pull request, copies the artifacts, and runs the commands of the job with the API of the forge.
job() {
	rm -rf "$forge/checkout"
	git clone -q -b change "$forge/repository.git" "$forge/checkout"
	[ "$1" = plan ] || cp "$forge/artifacts/"* "$forge/checkout/"
	rm -f "$forge/port"
	python3 "$here/forge_api.py" "$forge/comments" "$forge/port" &
	api=$!
	trap 'kill "$api" 2>/dev/null || true' EXIT
	while [ ! -s "$forge/port" ]; do
		kill -0 "$api" || exit 1
		sleep 0.05
	done
	url=http://127.0.0.1:$(cat "$forge/port")
	cd "$forge/checkout"
	case $kind in
	github)
		export GITHUB_ACTIONS=true GITHUB_API_URL="$url" GITHUB_REPOSITORY=me/site PULL_REQUEST=1 GITHUB_TOKEN=token-of-the-job
		export GITHUB_OUTPUT="$forge/output"
		: >"$GITHUB_OUTPUT"
		;;
	gitlab)
		export GITLAB_CI=true CI_API_V4_URL="$url/api/v4" CI_PROJECT_ID=7 CI_MERGE_REQUEST_IID=1 MOORFAST_GITLAB_TOKEN=token-of-the-job
		;;
	esac
	[ -n "$(lines "$1")" ] || {
		echo "the workflow file has no lines for the job $1" >&2
		exit 1
	}
	lines "$1" >"$forge/job.sh"
	status=0
	sh -e "$forge/job.sh" || status=$?
	if [ "$1" = plan ] && [ "$status" = 0 ]; then cp plan.moorfast plan.html "$forge/artifacts/"; fi
	exit "$status"
}

case $kind in github | gitlab) ;; *) usage ;; esac
case $step in
new) new "${3:?a folder with a manifest}" ;;
push)
	push_commit "${3:?a folder with a manifest}" change
	job plan
	;;
approve) job apply ;;
comments) for comment in "$forge"/comments/*.md; do [ ! -e "$comment" ] || cat "$comment"; done ;;
*) usage ;;
esac
