package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/microvm/microvm/agent/api"
)

// readSettings reads the settings of an interface of the calling thread's namespace
// that are not the kernel's own.
func readSettings(name string) (map[string]string, error) {
	var all map[string]string
	for key, usual := range api.Settings {
		text, err := os.ReadFile(api.SettingPath(key, name))
		if errors.Is(err, fs.ErrNotExist) { // another kernel, or one without IPv6
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read setting of %s: %w", name, err)
		}
		if value := strings.TrimSpace(string(text)); value != usual {
			if all == nil {
				all = map[string]string{}
			}
			all[key] = value
		}
	}
	return all, nil
}
