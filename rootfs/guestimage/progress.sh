# Sourced by build-kernel: shows how far make is.

# Lines that kbuild prints for one build with kernel.config; the bar counts them.
# An inexact number makes the bar end a little early or late, nothing else.
expected_steps=1990

# progress_of_make reads make's output and draws a bar on a terminal, or a line
# for every ten percent elsewhere, on stderr.
progress_of_make() {
	local line steps=0 percent shown=-1
	while IFS= read -r line; do
		case $line in
		'  '[A-Z]*) steps=$((steps + 1)) ;;
		*) continue ;;
		esac
		percent=$((steps * 100 / expected_steps))
		[ "$percent" -le 99 ] || percent=99
		[ "$percent" != "$shown" ] || continue
		shown=$percent
		draw_progress "$percent" "$steps"
	done
	draw_progress 100 "$steps"
	[ ! -t 2 ] || echo >&2
}

draw_progress() {
	local percent=$1 steps=$2 width=40 bar
	if [ -t 2 ]; then
		printf -v bar '%*s' $((percent * width / 100)) ''
		printf '\r  [%-*s] %3d%%  %d files, %d s ' $width "${bar// /#}" "$percent" "$steps" "$SECONDS" >&2
	elif [ $((percent % 10)) = 0 ]; then
		printf '  kernel %d%% (%d files, %d s)\n' "$percent" "$steps" "$SECONDS" >&2
	fi
}
