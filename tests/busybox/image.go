package busybox

import (
	"archive/tar"
	"bytes"
	_ "crypto/sha256" // for package digest
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameAnnotation is where containerd finds an imported image's name.
const nameAnnotation = "io.containerd.image.name"

// Image writes an OCI image called name to file, a tar archive of an image
// layout. Its layers are the contents of directories, the lowest first. Left to
// itself it does nothing, as the first container of a pod.
func Image(file, name string, layers ...string) error {
	l := &layout{}
	config := v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   v1.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh", "-c", "while :; do sleep 1000; done"}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, dir := range layers {
		packed, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
		if err != nil {
			return fmt.Errorf("pack layer %s: %w", dir, err)
		}
		d := l.add(v1.MediaTypeImageLayer, packed)
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
	}
	manifest.Config = l.addJSON(v1.MediaTypeImageConfig, config)
	top := l.addJSON(v1.MediaTypeImageManifest, manifest)
	top.Annotations = map[string]string{nameAnnotation: name}
	l.file("index.json", l.encode(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []v1.Descriptor{top}}))
	l.file(v1.ImageLayoutFile, l.encode(v1.ImageLayout{Version: v1.ImageLayoutVersion}))
	return l.write(file)
}

// layout is an image layout under construction.
type layout struct {
	names    []string
	contents [][]byte
	err      error
}

func (l *layout) file(name string, content []byte) {
	l.names, l.contents = append(l.names, name), append(l.contents, content)
}

func (l *layout) add(mediaType string, content []byte) v1.Descriptor {
	sum := digest.FromBytes(content)
	l.file("blobs/sha256/"+sum.Encoded(), content)
	return v1.Descriptor{MediaType: mediaType, Digest: sum, Size: int64(len(content))}
}

func (l *layout) addJSON(mediaType string, v any) v1.Descriptor {
	return l.add(mediaType, l.encode(v))
}

func (l *layout) encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		l.err = err
	}
	return data
}

func (l *layout) write(file string) error {
	if l.err != nil {
		return fmt.Errorf("encode image: %w", l.err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, name := range l.names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(l.contents[i]))}); err != nil {
			return err
		}
		if _, err := w.Write(l.contents[i]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
