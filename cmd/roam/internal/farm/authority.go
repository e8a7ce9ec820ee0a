package farm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	rootLife  = 10 * 365 * 24 * time.Hour
	rootSpare = 30 * 24 * time.Hour // a root that ends sooner is replaced at start
	leafLife  = 30 * 24 * time.Hour
)

// An authority signs the certificate of one farm's balancer. It is made when
// the farm first starts and kept in its folder, so that a browser or a curl that was
// told to trust it once goes on doing so.
//
// Nobody puts it into a trust store. If somebody does, its own name
// constraints limit the damage: it can vouch for this machine's loopback names
// and for nothing else (RFC 5280, section 4.2.1.10).
type authority struct {
	certFile string
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey

	mu   sync.Mutex
	leaf *tls.Certificate // kept in memory only; anybody can see it in a handshake
}

// loopback is whom the certificate is for.
var loopback = struct {
	names []string
	ips   []net.IP
	nets  []*net.IPNet
}{
	names: []string{"localhost"},
	ips:   []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	nets: []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	},
}

// openAuthority reads the authority in dir, or makes one.
func openAuthority(dir string) (*authority, error) {
	certFile, keyFile := filepath.Join(dir, "root.crt"), filepath.Join(dir, "root.key")
	a, err := readAuthority(certFile, keyFile)
	if err == nil && time.Until(a.cert.NotAfter) > rootSpare {
		return a, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; remove root.crt and root.key for a new authority", err)
	}
	return makeAuthority(certFile, keyFile)
}

func readAuthority(certFile, keyFile string) (*authority, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM) // also checks that they belong together
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certFile, keyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: not the authority that this program makes", certFile)
	}
	if err := os.Chmod(keyFile, 0o600); err != nil {
		return nil, err
	}
	return &authority{certFile: certFile, cert: pair.Leaf, key: key}, nil
}

func makeAuthority(certFile, keyFile string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: fmt.Sprintf("roam development authority on %s, made %s", host, now.Format(time.DateOnly))},
		NotBefore:                   now.Add(-time.Hour), // a clock may have been set back since
		NotAfter:                    now.Add(rootLife),
		KeyUsage:                    x509.KeyUsageCertSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         loopback.names,
		PermittedIPRanges:           loopback.nets,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	// The key goes first: without a certificate it is replaced at the next start,
	// while a certificate with another key would be an error to be solved.
	if err := os.Remove(certFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	return &authority{certFile: certFile, cert: cert, key: key}, nil
}

// serial is 126 random bits: unique, positive, and never all zero in practice.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x3f | 0x20
	return new(big.Int).SetBytes(b[:])
}

// certificate returns the balancer's certificate, a new one at the farm's
// start and whenever half of its life is over.
func (a *authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaf != nil && time.Until(a.leaf.Leaf.NotAfter) > leafLife/2 {
		return a.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "roam balancer"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     loopback.names,
		IPAddresses:  loopback.ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a.leaf = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return a.leaf, nil
}

func (a *authority) config() *tls.Config {
	return &tls.Config{GetCertificate: a.certificate, MinVersion: tls.VersionTLS12}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Pool reads a farm's authority from the file in [Info.RootCert].
func Pool(certFile string) (*x509.CertPool, error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bytes.TrimSpace(text)) {
		return nil, fmt.Errorf("%s: no certificate in it", certFile)
	}
	return pool, nil
}
