package bundle

import (
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// validateHooks checks what running them would only find out later.
func validateHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for kind, all := range map[string][]specs.Hook{
		//lint:ignore SA1019 docker still writes prestart hooks
		"prestart": h.Prestart, "createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer,
		"startContainer": h.StartContainer, "poststart": h.Poststart, "poststop": h.Poststop,
	} {
		for i, hook := range all {
			field := fmt.Sprintf("hooks.%s[%d]", kind, i)
			switch {
			case !filepath.IsAbs(hook.Path):
				return invalid(field+".path", "%q must be an absolute path", hook.Path)
			case hook.Timeout != nil && *hook.Timeout <= 0:
				return invalid(field+".timeout", "must be greater than zero, not %d: leave it out for none", *hook.Timeout)
			}
		}
	}
	return nil
}

// guestHooks are those that run in the container, where only the guest can
// start them; all others are the host's.
func guestHooks(h *specs.Hooks) *specs.Hooks {
	if h == nil || len(h.StartContainer) == 0 {
		return nil
	}
	return &specs.Hooks{StartContainer: h.StartContainer}
}
