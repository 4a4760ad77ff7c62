package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/rhizome-dev/rhizome/internal/names"
)

// identity is the certificate that is served and the authority that vouches for it.
type identity struct {
	certificate tls.Certificate
	authority   []byte // PEM
}

// serving keeps the newest identity that can be used.
type serving struct {
	namespace string
	logger    *slog.Logger
	current   atomic.Pointer[identity] // nil: there was none yet
	changed   *bell
}

// identityOf reads the Secret.
func identityOf(s *corev1.Secret) (*identity, error) {
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("Secret %s/%s: %s and %s are no certificate with its key: %w",
			s.Namespace, s.Name, corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	authority := s.Data[names.KeyAuthority]
	if len(authority) == 0 {
		return nil, fmt.Errorf("Secret %s/%s: %s is empty: machines would trust nobody", s.Namespace, s.Name, names.KeyAuthority)
	}
	return &identity{pair, authority}, nil
}

// follow takes every new version of the Secret, until ctx ends. It returns when it
// is known whether there is one.
func (s *serving) follow(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("cannot watch the serving certificate: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.take(o) },
		UpdateFunc: func(_, o any) { s.take(o) },
		// Deleted: the last one is served until there is another.
	})
	if err != nil {
		return fmt.Errorf("cannot watch the serving certificate: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return fmt.Errorf("cannot read the serving certificate: %w", context.Cause(ctx))
	}
	return nil
}

func (s *serving) take(o any) {
	secret, ok := o.(*corev1.Secret)
	if !ok || secret.Namespace != s.namespace || secret.Name != names.ServingSecret {
		return
	}
	next, err := identityOf(secret)
	if err != nil {
		s.logger.Error("cannot use the new serving certificate, the last one stays", "error", err)
		return
	}
	s.current.Store(next)
	s.logger.Info("serving certificate", "notAfter", next.certificate.Leaf.NotAfter, "addresses", next.certificate.Leaf.IPAddresses)
	s.changed.ring()
}

// certificate is what tls.Config.GetCertificate asks.
func (s *serving) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if id := s.current.Load(); id != nil {
		return &id.certificate, nil
	}
	return nil, errors.New("there is no serving certificate yet")
}

// covers says why machines would not trust us at this address; nil: they do.
func (s *serving) covers(address netip.Addr) error {
	id := s.current.Load()
	if id == nil {
		return fmt.Errorf("Secret %s/%s with the serving certificate is not there yet: the operator makes it", s.namespace, names.ServingSecret)
	}
	if err := id.certificate.Leaf.VerifyHostname(address.String()); err != nil {
		return fmt.Errorf("the serving certificate is not for %s yet: the operator renews it", address)
	}
	return nil
}
