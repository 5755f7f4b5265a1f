package traffic

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// CA is a certificate authority that lives as long as the process. It issues
// one server certificate and nothing of it is ever written to a file.
type CA struct {
	pool *x509.CertPool
	leaf tls.Certificate
}

// NewCA makes an authority and a server certificate for the given addresses.
func NewCA(servers ...netip.Addr) (*CA, error) {
	// An hour on each side: a guest's clock may be off, its run is not long.
	notBefore, notAfter := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pmtulab CA"},
		NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "pmtulab server"},
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, address := range servers {
		server.IPAddresses = append(server.IPAddresses, net.IP(address.AsSlice()))
	}

	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the key of the CA: %w", err)
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of the CA: %w", err)
	}
	caCert, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, fmt.Errorf("read back the certificate of the CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the key of the server: %w", err)
	}
	leaf, err := x509.CreateCertificate(rand.Reader, server, caCert, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of the server: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(caCert)
	return &CA{pool: pool, leaf: tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}}, nil
}

// TLS holds what of a TLS session matters to packet sizes. The zero value is
// the quiet one that the package comment describes.
type TLS struct {
	// PostQuantum offers X25519MLKEM768 first, as Go does by default: the
	// ClientHello then takes about 1.5 kB, more than one segment.
	PostQuantum bool
	// SessionTickets lets the server send TLS 1.3 tickets after the handshake.
	SessionTickets bool
}

// config is common to both sides. TLS 1.3 only: its record overhead is the
// same for every suite, see recordOverhead.
func (t TLS) config() *tls.Config {
	c := &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      !t.SessionTickets,
		NextProtos:                  []string{"http/1.1"},
	}
	if !t.PostQuantum {
		c.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	return c
}

func (ca *CA) server(t TLS) *tls.Config {
	c := t.config()
	c.Certificates = []tls.Certificate{ca.leaf}
	return c
}

func (ca *CA) client(t TLS, name string) *tls.Config {
	c := t.config()
	c.RootCAs = ca.pool
	c.ServerName = name
	return c
}
