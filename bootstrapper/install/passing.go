package install

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Passing says whether an error is of an API server that is crowded, starts or is away
// for a moment, so that what was asked is to be asked again: a request that took the
// server too long (it may have been carried out all the same), a server that asks to
// come back later, a connection that was refused, cut or timed out. All that a Client
// does may be done again.
func Passing(err error) bool {
	switch {
	case err == nil:
		return false
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err),
		apierrors.IsServiceUnavailable(err):
		return true
	}
	return utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		utilnet.IsTimeout(err) || utilnet.IsHTTP2ConnectionLost(err)
}
