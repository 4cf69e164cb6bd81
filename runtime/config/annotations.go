package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// annotationPrefix is in front of a key of the file, in a bundle's annotations.
const annotationPrefix = "io.microvm."

// WithAnnotations returns c changed by the annotations io.microvm.machine,
// .memory (MiB), .cpus, .kernel, .initramfs, .network, .spoofing, .ingress, .egress,
// .ingress_frames, .egress_frames, .cache, .mitigations, .publish and .debug. Unknown ones below io.microvm are an error, for they would silently do
// nothing.
//
// The binaries to run are the administrator's alone to choose.
func (c Config) WithAnnotations(annotations map[string]string) (Config, error) {
	for k, v := range annotations {
		key, ours := strings.CutPrefix(k, annotationPrefix)
		if !ours {
			continue
		}
		if err := c.set(key, v); err != nil {
			return Config{}, fmt.Errorf("annotation %s: %w", k, err)
		}
	}
	return c, nil
}

// OfPod returns those of a pod's annotations that the configuration lets through,
// for pods whose annotations containerd hands over as they are.
func (c Config) OfPod(annotations map[string]string) map[string]string {
	let := map[string]string{}
	for k, v := range annotations {
		if strings.HasPrefix(k, annotationPrefix) && c.letsThrough(k) {
			let[k] = v
		}
	}
	return let
}

func (c Config) letsThrough(annotation string) bool {
	return slices.ContainsFunc(c.PodAnnotations, func(pattern string) bool {
		ok, _ := path.Match(pattern, annotation) // Validate has seen the pattern
		return ok
	})
}

// maySee is an error for a file that is not among Guests.
func (c *Config) maySee(file string) error {
	for _, pattern := range c.Guests {
		if ok, _ := path.Match(pattern, file); ok && path.Clean(file) == file { // Validate has seen the pattern
			return nil
		}
	}
	return fmt.Errorf("%s is not among the files that the configuration's guests are: name it there, such as guests = [%q]", file, file)
}

func (c *Config) set(key, value string) (err error) {
	switch key {
	case "machine":
		c.Machine = value
	case "memory":
		c.Memory, err = strconv.ParseUint(value, 10, 32)
		if err == nil && c.Memory == 0 {
			return fmt.Errorf("0 MiB is less than the %d MiB that a guest needs", MinMemory)
		}
	case "cpus":
		c.CPUs, err = strconv.Atoi(value)
	case "kernel":
		c.Kernel, err = value, c.maySee(value)
	case "initramfs":
		c.Initramfs, err = value, c.maySee(value)
	case "network":
		c.Network = value
	case "spoofing":
		if value == SpoofingAllow && c.Spoofing == SpoofingRefuse {
			return errors.New("the configuration refuses it to all containers")
		}
		c.Spoofing = value
	case "mitigations":
		if value == MitigationsOff && c.Mitigations != MitigationsOff {
			return errors.New("the configuration does not allow it: it is for mitigations = \"off\" there")
		}
		c.Mitigations = value
	case "ingress":
		err = c.Ingress.tighten(value)
	case "ingress_frames":
		err = c.IngressFrames.tighten(value)
	case "egress":
		err = c.Egress.tighten(value)
	case "egress_frames":
		err = c.EgressFrames.tighten(value)
	case "cache":
		c.Cache = value
	case "publish":
		c.Publish = value
		_, err = c.Publications()
	case "debug":
		c.Debug, err = strconv.ParseBool(value)
	default:
		return fmt.Errorf("unknown; known are machine, memory, cpus, kernel, initramfs, network, spoofing, ingress, egress, ingress_frames, egress_frames, cache, mitigations, publish and debug")
	}
	if err != nil {
		return err
	}
	return c.Validate()
}
