# Sourced by build-kernel: finds and unpacks the kernel's source.
#
# Debian's package is fetched with an apt of its own: own lists, own sources, own
# cache, removed afterwards. The user's sources.list, pins and installed packages
# play no part and are not changed; proxies set in apt.conf are honoured.

kernel_package=linux-source-6.12
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# unpack_source TARBALL WORK fills WORK/linux, from Debian's package if TARBALL is
# empty, and notes where it came from in WORK/source-version.
unpack_source() {
	local tarball=$1 work=$2
	mkdir "$work/linux"
	if [ -n "$tarball" ]; then
		basename "$tarball" >"$work/source-version"
		say "unpacking $tarball"
		extract_tree "$work/linux" <"$tarball" || die "unpack $tarball: see above"
		return
	fi
	local deb=
	fetch_package "$work"
	say "unpacking $kernel_package $(cat "$work/source-version")"
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$kernel_package.tar.xz" |
		extract_tree "$work/linux" || die "unpack $deb: see above"
	rm -f "$deb"
}

# extract_tree DIR unpacks the tarball on stdin, without the code of other
# architectures and of drivers that no guest has: their Kconfig files must stay,
# the rest is most of the tree.
extract_tree() {
	tar -xJ -C "$1" --strip-components=1 \
		--exclude='*/arch/[a-w]*/*.[chS]' --exclude='*/arch/[a-w]*/*.dts*' \
		--exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/media/*.[ch]' \
		--exclude='*/sound/*.[ch]' --exclude='*/Documentation/*.rst' \
		--exclude='*/Documentation/*.yaml'
}

# fetch_package WORK downloads and verifies the package; sets deb to its path.
fetch_package() {
	local work=$1 apt=$1/apt expected
	prepare_private_apt "$apt"
	say "fetching $kernel_package from Debian"
	private_apt "$apt" apt-get update -qq >&2 || die "apt-get update: no package lists from the Debian mirrors, see above"
	local record
	record=$(private_apt "$apt" apt-cache --no-all-versions show "$kernel_package") ||
		die "the Debian mirrors do not offer $kernel_package: give a tarball with --source"
	sed -n 's/^Version: //p' <<<"$record" >"$work/source-version"
	expected=$(sed -n 's/^SHA256: //p' <<<"$record")
	(cd "$work" && private_apt "$apt" apt-get download -qq "$kernel_package" >&2) ||
		die "apt-get download $kernel_package: see above"
	deb=$(echo "$work/$kernel_package"_*.deb)
	[ -n "$expected" ] && echo "$expected  $deb" | sha256sum --check --quiet - >&2 ||
		die "$deb does not have the SHA-256 $expected of the signed package list"
	rm -rf "$apt"
}

# prepare_private_apt DIR makes the directories and the source list of an apt that
# knows Debian's archive only.
prepare_private_apt() {
	local apt=$1 main security codename
	main=${MICROVM_DEBIAN_MIRROR:-http://deb.debian.org/debian}
	security=${MICROVM_DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
	[ -r "$debian_keyring" ] || die "no $debian_keyring: install debian-archive-keyring or give a tarball with --source"
	mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,empty}
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	case $codename in
	# 6.12 came to bookworm by backports, and its fixes by security.
	bookworm) list_suites "$main" bookworm-backports ;;
	# Whoever else has Debian's keyring can read trixie.
	*) codename=trixie; list_suites "$main" trixie ;;
	esac >"$apt/sources.list"
	list_suites "$security" "$codename-security" >>"$apt/sources.list"
	# apt drops its rights while it downloads and has to reach the directory.
	[ "$(id -u)" != 0 ] || chmod 755 "$apt" "$(dirname "$apt")"
}

list_suites() {
	local mirror=$1 suite
	shift
	for suite in "$@"; do
		echo "deb [signed-by=$debian_keyring] $mirror $suite main"
	done
}

# private_apt DIR COMMAND... runs an apt command on the private state.
private_apt() {
	local apt=$1 command=$2
	shift 2
	"$command" \
		-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/empty" \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$apt/empty" \
		-o Dir::State="$apt/state" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$apt/cache" -o APT::Architecture=amd64 -o APT::Architectures::=amd64 \
		-o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
