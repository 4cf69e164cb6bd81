package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Policies of the cache: how long a guest may believe what it has seen of an export.
const (
	CacheAuto   = "auto"   // a change on the host is seen within a second, and at once after open
	CacheNever  = "never"  // the host is asked every time
	CacheAlways = "always" // nobody changes it while the container lives
)

// Caches are the policies of a container's exports.
type Caches struct {
	// Default is for those that are not in At; empty if the setting has none.
	Default string
	// At are policies by where the container has the export.
	At map[string]string
}

// Caches are what Cache says: a policy, and others for some places, as in
// "never,/data=always,/=auto".
func (c Config) Caches() (Caches, error) {
	all := Caches{At: map[string]string{}}
	for _, word := range strings.FieldsFunc(c.Cache, func(r rune) bool { return r == ',' }) {
		place, policy, apart := strings.Cut(word, "=")
		if !apart {
			place, policy = "", word
		}
		if !slices.Contains([]string{CacheAuto, CacheNever, CacheAlways}, policy) {
			return Caches{}, fmt.Errorf("cache: %q in %q is not one of auto, never, always", policy, c.Cache)
		}
		switch {
		case apart && !path.IsAbs(place):
			return Caches{}, fmt.Errorf("cache: %q in %q is no absolute path of the container, such as /data", place, c.Cache)
		case apart:
			all.At[path.Clean(place)] = policy
		case all.Default != "":
			return Caches{}, fmt.Errorf("cache: %q has two policies for the rest: %s and %s", c.Cache, all.Default, policy)
		default:
			all.Default = policy
		}
	}
	return all, nil
}

// Of is the policy for what the container has at place. What nobody changes is kept
// for good, unless something else is said.
func (c Caches) Of(place string, immutable bool) string {
	if policy, ok := c.At[path.Join("/", place)]; ok {
		return policy
	}
	if c.Default == "" && immutable {
		return CacheAlways
	}
	return c.Default
}
