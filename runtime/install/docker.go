package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// addDocker adds the runtime to docker's configuration file.
func (p *Plan) addDocker(file, prefix string) error {
	own := map[string]string{"path": Runtime(prefix)}
	all, runtimes := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read docker's configuration: %w", err)
	default:
		if err = json.Unmarshal(data, &all); err == nil && all["runtimes"] != nil {
			err = json.Unmarshal(all["runtimes"], &runtimes)
		}
		if err != nil {
			return fmt.Errorf("read docker's configuration: %s: %w: nothing was changed; add %q to its \"runtimes\" by hand", file, err, Name)
		}
	}
	if there := runtimes[Name]; there != nil {
		p.note("%s has the runtime already", file)
		return nil
	}
	if runtimes[Name], err = json.Marshal(own); err != nil {
		return err
	}
	if all["runtimes"], err = json.Marshal(runtimes); err != nil {
		return err
	}
	if data, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	p.note("docker reads %s when it is told so: systemctl reload docker", file)
	return p.add(File{Path: file, Mode: 0o644, Config: true, Content: append(data, '\n')})
}
