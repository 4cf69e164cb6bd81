package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// ownOptions are the verbs whose arguments after the container are options of
// something else: of the program to run, or of ps.
var ownOptions = []string{"exec", "ps"}

// permute puts a verb's options before its other arguments, where the parser
// looks for them: runc takes `delete NAME --force`, too.
func permute(app *cli.App, args []string) []string {
	verb := firstArgument(app.Flags, args)
	if verb == len(args) {
		return args
	}
	command := app.Command(args[verb])
	if command == nil || slices.Contains(ownOptions, command.Name) {
		return args
	}
	var options, rest []string
	for i := verb + 1; i < len(args); i++ {
		n := optionLength(command.Flags, args[i])
		if args[i] == "--" || i+n > len(args) {
			rest = append(rest, args[i:]...)
			break
		}
		if n == 0 {
			rest = append(rest, args[i])
			continue
		}
		options = append(options, args[i:i+n]...)
		i += n - 1
	}
	return slices.Concat(args[:verb+1], options, rest)
}

// firstArgument is the index in args, after the program's name, of what is
// none of flags, or len(args).
func firstArgument(flags []cli.Flag, args []string) int {
	i := 1
	for i < len(args) {
		n := optionLength(flags, args[i])
		if n == 0 {
			return i
		}
		i += n
	}
	return len(args)
}

// optionLength is the number of arguments that an option takes up with its
// value, 0 for what is none of flags.
func optionLength(flags []cli.Flag, arg string) int {
	name, dashed := strings.CutPrefix(arg, "-")
	if !dashed {
		return 0
	}
	name, _, valued := strings.Cut(strings.TrimPrefix(name, "-"), "=")
	if name == "help" || name == "h" {
		return 1
	}
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		if d, ok := f.(cli.DocGenerationFlag); ok && d.TakesValue() && !valued {
			return 2
		}
		return 1
	}
	return 0
}
