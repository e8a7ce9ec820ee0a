package farm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func authorityIn(t *testing.T, dir string) *authority {
	t.Helper()
	a, err := openAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func leafOf(t *testing.T, a *authority) *x509.Certificate {
	t.Helper()
	c, err := a.certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func TestCertificateIsForThisMachine(t *testing.T) {
	a := authorityIn(t, t.TempDir())
	leaf := leafOf(t, a)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.pool()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "example.com", Roots: a.pool()}); err == nil {
		t.Error("the certificate is good for example.com")
	}
}

// If somebody trusts the authority and its key is stolen, the thief still
// cannot be anybody else.
func TestAuthorityCannotVouchForOthers(t *testing.T) {
	a := authorityIn(t, t.TempDir())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.com", "localhost"} {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}, a.cert, &key.PublicKey, a.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cert.Verify(x509.VerifyOptions{DNSName: name, Roots: a.pool()})
		if good := err == nil; good != (name == "localhost") {
			t.Errorf("%s: verified %t: %v", name, good, err)
		}
	}
}

func TestAuthorityIsKeptAndItsCertificateRenewed(t *testing.T) {
	dir := t.TempDir()
	first, second := authorityIn(t, dir), authorityIn(t, dir)
	if !first.cert.Equal(second.cert) {
		t.Error("the authority is a new one")
	}
	leaf := leafOf(t, first)
	if leaf.Equal(leafOf(t, second)) {
		t.Error("the certificate is an old one")
	}
	if !leaf.Equal(leafOf(t, first)) {
		t.Error("the certificate is a new one in every handshake")
	}
	// Half of its life later.
	first.leaf.Leaf.NotAfter = time.Now().Add(leafLife/2 - time.Minute)
	if leaf.Equal(leafOf(t, first)) {
		t.Error("the certificate is not renewed before it ends")
	}
}

func TestDamagedAuthorityIsRefusedWithAdvice(t *testing.T) {
	dir := t.TempDir()
	authorityIn(t, dir)
	other := t.TempDir()
	authorityIn(t, other)
	key, err := os.ReadFile(filepath.Join(other, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{key, []byte("nonsense")} {
		if err := os.WriteFile(filepath.Join(dir, "root.key"), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openAuthority(dir); err == nil || !strings.Contains(err.Error(), "remove root.crt and root.key") {
			t.Errorf("got %v, want advice", err)
		}
	}
	// A missing half is as good as none.
	if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	leafOf(t, authorityIn(t, dir))
}

func TestSiteSpeaksTLSAndHTTP2(t *testing.T) {
	s := open(t, Options{Servers: 1})
	res, err := s.client.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 2 || res.TLS.Version != tls.VersionTLS13 {
		t.Errorf("got %s over TLS version %x, want HTTP/2 over TLS 1.3", res.Proto, res.TLS.Version)
	}
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if res, err := stranger.Get(s.URL()); err == nil {
		res.Body.Close()
		t.Error("a client that was not told to trust the authority trusts it")
	}
}
