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
	packed := make([][]byte, len(layers))
	for i, dir := range layers {
		var err error
		if packed[i], err = Layer(dir); err != nil {
			return err
		}
	}
	p, err := Pack(v1.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh", "-c", "while :; do sleep 1000; done"}}, packed...)
	if err != nil {
		return err
	}
	return p.write(file, name)
}

// Layer packs a directory as a layer.
func Layer(dir string) ([]byte, error) {
	packed, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
	if err != nil {
		return nil, fmt.Errorf("pack layer %s: %w", dir, err)
	}
	return packed, nil
}

// Packed is an image in pieces.
type Packed struct {
	// Manifest is the one of Blobs that holds the others together.
	Manifest v1.Descriptor
	Blobs    map[digest.Digest][]byte
}

// Pack makes an image of layers, the lowest first.
func Pack(config v1.ImageConfig, layers ...[]byte) (*Packed, error) {
	p := &Packed{Blobs: map[digest.Digest][]byte{}}
	image := v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   config, RootFS: v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		d := p.add(v1.MediaTypeImageLayer, l)
		manifest.Layers = append(manifest.Layers, d)
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, d.Digest)
	}
	var err error
	if manifest.Config, err = p.addJSON(v1.MediaTypeImageConfig, image); err != nil {
		return nil, err
	}
	p.Manifest, err = p.addJSON(v1.MediaTypeImageManifest, manifest)
	return p, err
}

func (p *Packed) add(mediaType string, content []byte) v1.Descriptor {
	sum := digest.FromBytes(content)
	p.Blobs[sum] = content
	return v1.Descriptor{MediaType: mediaType, Digest: sum, Size: int64(len(content))}
}

func (p *Packed) addJSON(mediaType string, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return p.add(mediaType, data), nil
}

// write writes an image layout as an archive, for an import under that name.
func (p *Packed) write(file, name string) error {
	top := p.Manifest
	top.Annotations = map[string]string{nameAnnotation: name}
	index, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("encode layout: %w", err)
	}
	files := map[string][]byte{"index.json": index, v1.ImageLayoutFile: layout}
	for sum, content := range p.Blobs {
		files["blobs/sha256/"+sum.Encoded()] = content
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
