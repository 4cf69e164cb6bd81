package process

import (
	"regexp"
	"strconv"
	"strings"
)

// template is one of those in [api.TransformFormat].
var template = regexp.MustCompile(`\{\{\s*(\w+)\s+(\d+)(?:\s+(\d+))?\s*\}\}`)

// format fills in what l says of the layers that were made before.
func (l *layer) format(made []*layer) (err error) {
	if l.source, err = fillIn(l.source, made); err != nil {
		return err
	}
	if l.target, err = fillIn(l.target, made); err != nil {
		return err
	}
	options := make([]string, len(l.options))
	for i, o := range l.options {
		if options[i], err = fillIn(o, made); err != nil {
			return err
		}
	}
	l.options = options
	return nil
}

func fillIn(text string, made []*layer) (filled string, err error) {
	filled = template.ReplaceAllStringFunc(text, func(s string) string {
		value, e := evaluate(template.FindStringSubmatch(s), made)
		if e != nil {
			err = e
		}
		return value
	})
	if err == nil && strings.Contains(template.ReplaceAllString(text, ""), "{{") {
		err = fail(ErrInvalid, "template %q is not understood", text)
	}
	return filled, err
}

// evaluate takes a template, its function and its one or two numbers.
func evaluate(match []string, made []*layer) (string, error) {
	from, err := layerIndex(match[2], made)
	if err != nil {
		return "", err
	}
	l := made[from]
	switch {
	case match[1] == "overlay" && match[3] != "":
		to, err := layerIndex(match[3], made)
		if err != nil {
			return "", err
		}
		return strings.Join(places(made, from, to), ":"), nil
	case match[3] != "":
	case match[1] == "mount":
		return l.place, nil
	case match[1] == "source":
		return l.source, nil
	case match[1] == "target":
		return l.target, nil
	}
	return "", fail(ErrInvalid, "template %q is not understood", match[0])
}

// places are those of the layers from one to another, in that order.
func places(made []*layer, from, to int) (all []string) {
	step := 1
	if from > to {
		step = -1
	}
	for i := from; ; i += step {
		all = append(all, made[i].place)
		if i == to {
			return all
		}
	}
}

func layerIndex(text string, made []*layer) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n >= len(made) {
		return 0, fail(ErrInvalid, "a template is about mount %s, and %d are made before", text, len(made))
	}
	return n, nil
}
