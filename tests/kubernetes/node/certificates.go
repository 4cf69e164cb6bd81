package node

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// identity is whom a certificate is for: a user and its group, and for servers
// the names by which they are called.
type identity struct {
	file, user, group string
	names             []string
	addresses         []net.IP
}

// identities are those whose certificates the node's authority signs. Kubernetes
// knows their users and groups.
var identities = []identity{
	{file: "admin", user: "admin", group: "system:masters"},
	{
		file: "kube-apiserver", user: "kube-apiserver",
		names:     []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		addresses: []net.IP{net.ParseIP(controlAddress), net.ParseIP(apiService)},
	},
	{file: "kube-apiserver-client", user: "kube-apiserver-client", group: "system:masters"},
	{file: "kube-controller-manager", user: "system:kube-controller-manager"},
	{file: "kube-scheduler", user: "system:kube-scheduler"},
	{file: "kube-proxy", user: "system:kube-proxy"},
	{
		file: "kubelet", user: "system:node:" + Name, group: "system:nodes",
		names: []string{Name}, addresses: []net.IP{net.ParseIP(controlAddress), net.ParseIP(workerAddress)},
	},
}

func (n *Node) certificate(name string) string { return n.path("pki", name+".crt") }
func (n *Node) key(name string) string         { return n.path("pki", name+".key") }

// writeCertificates makes an authority and lets it sign for all identities. The
// key of service accounts is by itself.
func (n *Node) writeCertificates() error {
	if err := os.MkdirAll(n.path("pki"), 0o700); err != nil {
		return err
	}
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(n.key("service-account"), accounts); err != nil {
		return err
	}
	root := template(1, pkix.Name{CommonName: "microvm-kubernetes"})
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	signer, err := n.issue("ca", root, root, nil)
	if err != nil {
		return err
	}
	for i, id := range identities {
		subject := pkix.Name{CommonName: id.user}
		if id.group != "" {
			subject.Organization = []string{id.group}
		}
		leaf := template(int64(i)+2, subject)
		leaf.DNSNames, leaf.IPAddresses = id.names, id.addresses
		if _, err := n.issue(id.file, leaf, root, signer); err != nil {
			return fmt.Errorf("certificate of %s: %w", id.file, err)
		}
	}
	return nil
}

// copyCertificates takes from a control plane's node what a worker needs, and what
// its administrator does.
func (n *Node) copyCertificates(control *Node) error {
	if err := os.MkdirAll(n.path("pki"), 0o700); err != nil {
		return err
	}
	files := []string{"ca.crt"}
	for _, user := range []string{"admin", "kubelet", "kube-proxy"} {
		files = append(files, user+".crt", user+".key")
	}
	for _, name := range files {
		text, err := os.ReadFile(control.path("pki", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(n.path("pki", name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func template(serial int64, subject pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// issue writes a certificate and its key. One without a signer signs itself.
func (n *Node) issue(file string, c, parent *x509.Certificate, signer crypto.Signer) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return key, errors.Join(writeKey(n.key(file), key), os.WriteFile(n.certificate(file), text, 0o600))
}

// writeKey writes one in the form in which kube-apiserver finds its public part.
func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
