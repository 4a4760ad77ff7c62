package operator

import (
	"context"
	"errors"
	"net/http"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// syncedWait bounds how long a probe waits for the caches: probes have a time
// limit of their own.
const syncedWait = 500 * time.Millisecond

// synced is ready once the objects that are watched have been read for the first
// time. A replica that waits for the lease is ready to take over.
func synced(mgr ctrl.Manager) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), syncedWait)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the watched objects have not been read yet")
		}
		return nil
	}
}
