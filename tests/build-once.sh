# Sourced by scripts that build programs of others for the tests, which are kept
# outside the clone: what takes minutes is done once.
# shellcheck shell=bash

go=${GO:-go}
cache=${MICROVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/microvm}

# version_of MODULE is the one that the module of the working directory requires.
version_of() { "$go" list -m -f '{{.Version}}' "$1"; }

# build_once NAME ABOUT FUNCTION prints the directory NAME of the cache, which
# FUNCTION, unless it is there, has filled as $work/done.
build_once() {
	local target=$cache/$1
	if [ ! -d "$target" ]; then
		mkdir -p "$(dirname "$target")"
		work=$(mktemp -d "$(dirname "$target")/build-XXXXXX")
		trap 'rm -rf "$work"' EXIT
		mkdir "$work/done"
		echo "$2; it is kept in $target" >&2
		$3
		mv -T "$work/done" "$target" 2>/dev/null || [ -d "$target" ] # another one was faster
	fi
	echo "$target"
}

# counting COMMAND... runs a build that names packages, and counts them; it shows
# what was said if that fails.
counting() {
	nice "$@" 2>&1 | tee "$work/log" | awk '!/^go: / && ++n % 200 == 0 { printf "    %d packages\n", n; fflush() }' >&2 ||
		{ tail -n 20 "$work/log" >&2; exit 1; }
}

# install_program PACKAGE VERSION builds one in a module that requires it: `go install`
# alone takes none whose own module excludes others.
install_program() {
	echo "  ${1##*/} $2" >&2
	mkdir "$work/${1##*/}"
	(
		cd "$work/${1##*/}"
		export GOFLAGS='' CGO_ENABLED=0 GOBIN=$work/done
		counting "$go" mod init program
		counting "$go" get "$1@$2"
		counting "$go" install -v -ldflags '-s -w' "$1"
	)
}
