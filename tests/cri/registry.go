package cri

import (
	"net"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/microvm/microvm/tests/busybox"
)

// registry serves images as the distribution specification says, to be pulled.
type registry struct {
	url    string
	server http.Server
	tags   map[string]digest.Digest // of manifests, by path:tag
	blobs  map[digest.Digest][]byte
	done   chan struct{}
}

// serve makes one of these images on the loopback interface.
func serve(images map[string]*busybox.Packed) (*registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{url: "http://" + l.Addr().String(), tags: map[string]digest.Digest{}, blobs: map[digest.Digest][]byte{}, done: make(chan struct{})}
	for name, p := range images {
		r.tags[name] = p.Manifest.Digest
		for sum, content := range p.Blobs {
			r.blobs[sum] = content
		}
	}
	r.server.Handler = r
	go func() {
		defer close(r.done)
		_ = r.server.Serve(l) // until it is closed
	}()
	return r, nil
}

func (r *registry) close() {
	r.server.Close()
	<-r.done
}

// ServeHTTP answers GET and HEAD of /v2/PATH/{manifests,blobs}/REFERENCE.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/v2/"), "/")
	if len(parts) < 3 {
		return // it speaks version 2
	}
	path, kind, reference := strings.Join(parts[:len(parts)-2], "/"), parts[len(parts)-2], parts[len(parts)-1]
	sum, mediaType := digest.Digest(reference), "application/octet-stream"
	if kind == "manifests" {
		if tagged, ok := r.tags[path+":"+reference]; ok {
			sum = tagged
		}
		mediaType = v1.MediaTypeImageManifest
	}
	content, ok := r.blobs[sum]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", sum.String())
	_, _ = w.Write(content) // a client that goes away knows it
}
