package cri

// boundary is why a test that runc passes is not applicable: it wants of the host
// what a machine of its own keeps away.
type boundary struct {
	why string
	// finds is in the failure's message.
	finds string
}

const hostNetwork = "wants a pod in the host's network, whose interfaces and sockets a machine cannot have: it is refused"

var boundaries = map[string]boundary{
	"Security Context NamespaceOption runtime should support HostNetwork is true":                              {hostNetwork, "(hostNetwork)"},
	"Streaming runtime should support streaming interfaces runtime should support portforward in host network": {hostNetwork, "(hostNetwork)"},
	"Security Context NamespaceOption runtime should support HostPID": {
		"wants the host's processes, which are another kernel's: it is refused", "(hostPID)",
	},
	"Security Context NamespaceOption runtime should support HostIpc is true": {
		"wants a segment of the host's shared memory, which another kernel cannot share: it is refused", "(hostIPC)",
	},
	"Container Mount Propagation runtime should support mount propagation mount with 'rshared' should support propagation from host to container and vice versa": {
		"wants the host to see what the container mounts; that is in another kernel: it is refused", "mountPropagation: Bidirectional",
	},
}

// failsAnywhere was measured with runc 1.1.5 on Debian 12; TestPeer measures it
// again.
var failsAnywhere = map[string]string{
	"Image Manager public image with digest should be pulled and removed [Conformance]": "names the digest of an image that can't be made again",
	"Security Context bucket runtime should support MaskedPaths":                        "hides /bin/ls from a shell that has it built in, as Debian's static busybox does",
}
