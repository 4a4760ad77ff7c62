package power

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
)

// ErrUnproven is what an error is (errors.Is) when the machine was told and nothing
// showed that it followed.
var ErrUnproven = errors.New("nothing proves that the machine followed")

// Fault says what could not be done with the power of a Node.
type Fault struct {
	// Reason is one of the reasons of v1alpha1.ConditionPower.
	Reason string
	// Node is the Node's name, Field the part of it that says how its power is
	// reached, and URL what was asked.
	Node, Field, URL string
	// Doing is what was attempted, Fix what a person can do about it.
	Doing, Fix string
	// Err is the cause, with nothing secret in it.
	Err error
}

func (f *Fault) Error() string {
	text := fmt.Sprintf("Node/%s: %s: %s: %s: %v", f.Node, f.Field, f.URL, f.Doing, f.Err)
	if f.Fix != "" {
		text += "; " + f.Fix
	}
	return plaintext.Clip(text, 1500)
}

func (f *Fault) Unwrap() error { return f.Err }

// Lasts says whether the same is to be expected again until a person changes
// something: the credentials, the certificate, the Node, or the controller.
func (f *Fault) Lasts() bool {
	switch f.Reason {
	case v1alpha1.ReasonPowerCredentials, v1alpha1.ReasonPowerCertificate, v1alpha1.ReasonPowerUnsupported:
		return true
	}
	return false
}

// ReasonOf is the reason of an error of a driver; PowerUnreachable for one that is
// no Fault.
func ReasonOf(err error) string {
	var f *Fault
	if errors.As(err, &f) {
		return f.Reason
	}
	return v1alpha1.ReasonPowerUnreachable
}

// final says whether trying again within the same visit is of no use: the cause has
// been found, or whoever answers is not to be trusted.
func final(err error) bool {
	var f *Fault
	return errors.As(err, &f) || untrusted(err)
}

// untrusted says whether a request failed since the certificate is not trusted.
func untrusted(err error) bool {
	var (
		pin     *pinMismatch
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	return errors.As(err, &pin) || errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// plain is the text of an error without the secrets, at most limit bytes long: what
// a controller answers is not ours, and may repeat what it was sent.
func plain(err error, limit int, secrets ...[]byte) error {
	text := err.Error()
	for _, s := range secrets {
		if len(s) == 0 {
			continue
		}
		text = strings.ReplaceAll(text, string(s), "(secret)")
		// As JSON writes it, without the quotes around it.
		if quoted, err := json.Marshal(string(s)); err == nil {
			text = strings.ReplaceAll(text, string(quoted[1:len(quoted)-1]), "(secret)")
		}
	}
	return errors.New(plaintext.Clip(text, limit))
}

// unproven is an error of this text that is ErrUnproven.
func unproven(bare error) error { return &unprovenError{bare.Error()} }

type unprovenError struct{ text string }

func (e *unprovenError) Error() string { return e.text }

func (e *unprovenError) Is(other error) bool { return other == ErrUnproven }
