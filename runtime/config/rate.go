package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Rate is a number a second, such as "10M"; 0 says nothing.
type Rate uint64

// units are those that a rate may end with, of 1000 as for all rates.
var units = map[string]uint64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rate) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "kKMG")
	n, err := strconv.ParseUint(digits, 10, 32)
	unit := units[string(text)[len(digits):]]
	if err != nil || n == 0 || unit == 0 {
		return fmt.Errorf("%q is no rate, such as 500k, 10M or 1G a second", text)
	}
	*r = Rate(n * unit)
	return nil
}

// tighten sets r to what an annotation says, unless the configuration's limit is
// below that.
func (r *Rate) tighten(text string) error {
	var asked Rate
	if err := asked.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	if *r != 0 && *r < asked {
		return errors.New("the configuration has a lower limit: " + strconv.FormatUint(uint64(*r), 10))
	}
	*r = asked
	return nil
}
