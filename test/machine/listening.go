//go:build linux

package machine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"time"
)

// kubeletPort is where kubelets listen.
const kubeletPort = "10250"

// listen answers on the kubelet's port until ctx ends: by a TLS handshake, and not a
// word more. One that is frozen leaves connections to the kernel, which takes them.
func (n *node) listen(ctx context.Context) error {
	certificate, err := kubeletCertificate()
	if err != nil {
		return err
	}
	var listener net.Listener
	for range 10 { // k3s was just started again: the port is let go of in a moment
		if listener, err = n.Host.Listen("tcp4", net.JoinHostPort(n.config.IP, kubeletPort)); err == nil || ctx.Err() != nil {
			break
		}
		sleep(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			n.whileFrozen(ctx)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if n.Hangs() {
					<-ctx.Done()
					return
				}
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake() // whoever asks sees what came of it
			}()
		}
	}()
	return nil
}

var kubeletCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})
