package network

import (
	"fmt"
	"os"

	"github.com/microvm/microvm/agent/api"
)

// setSettings writes what i says anew. The container may have changed the others.
func (n *Network) setSettings(i *api.Interface) error {
	told := n.settings[i.Name]
	for key, usual := range api.Settings {
		want, before := usual, usual
		if v, ok := i.Settings[key]; ok {
			want = v
		}
		if v, ok := told[key]; ok {
			before = v
		}
		if want == before {
			continue
		}
		if err := os.WriteFile(api.SettingPath(key, i.Name), []byte(want), 0o644); err != nil {
			return fmt.Errorf("set %s to %s: %w", key, want, err)
		}
	}
	n.settings[i.Name] = i.Settings
	return nil
}
