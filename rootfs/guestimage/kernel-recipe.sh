# Sourced by build-kernel: how the kernel in $work/linux is configured with
# $fragment, and compiled. The hash of this file is part of the cache's key.

# kernel_make runs kbuild so that equal sources give equal kernels: nothing of the
# caller's environment, like MAKEFLAGS of a make around it, has a say.
kernel_make() {
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C make -C "$work/linux" --no-print-directory ARCH=x86 LOCALVERSION=-microvm \
		KBUILD_BUILD_USER=microvm KBUILD_BUILD_HOST=microvm \
		KBUILD_BUILD_TIMESTAMP="$(LC_ALL=C date -u -r "$work/linux/Makefile")" KCFLAGS=-pipe "$@"
}

# configure merges the fragment into tinyconfig and checks that nothing was dropped.
configure() {
	local dropped
	if ! write_config >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		die "configure the kernel: see above"
	fi
	dropped=$(dropped_options "$fragment" "$work/linux/.config")
	[ -z "$dropped" ] || die "the kernel did not take these lines of kernel.config:
$dropped"
}

write_config() {
	kernel_make -s tinyconfig &&
		(cd "$work/linux" && scripts/kconfig/merge_config.sh -m .config "$fragment") &&
		kernel_make -s olddefconfig
}

# dropped_options FRAGMENT CONFIG lists the requests that the result does not honour.
dropped_options() {
	awk '
	function request(key, value) { if (FILENAME == fragment) want[key] = value; else have[key] = value }
	/^CONFIG_[A-Za-z0-9_]+=/ { at = index($0, "="); request(substr($0, 1, at - 1), substr($0, at + 1)) }
	/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { request($2, "n") }
	END {
		for (key in want) {
			got = key in have ? have[key] : "n"
			if (got != want[key]) print "  " key "=" want[key] " became " got
		}
	}' fragment="$1" "$1" "$2" | sort
}

compile() {
	local jobs
	jobs=$(nproc)
	say "compiling with $jobs jobs (log: $work/log)"
	if ! kernel_make -j"$jobs" vmlinux 2>&1 | tee -a "$work/log" | progress_of_make; then
		tail -n 30 "$work/log" >&2
		keep_failed_log
		die "make vmlinux: see the lines above"
	fi
}

# collect DIR fills a new directory with what is kept of a build.
collect() {
	mkdir "$1"
	strip --strip-all -o "$1/vmlinux" "$work/linux/vmlinux"
	# Hard links of it lie in clones: nobody may write through one.
	chmod 444 "$1/vmlinux"
	cp "$work/linux/.config" "$1/config"
	kernel_make -s kernelrelease >"$1/version"
}
