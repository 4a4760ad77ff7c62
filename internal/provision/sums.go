package provision

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxSums bounds a release's checksums in bytes; k3s' have about ten lines.
const maxSums = 1 << 20

// FetchSums fetches the checksums of a release from the URL that ReleaseSums names,
// within a minute. Its errors name the URL.
func FetchSums(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the release's checksums: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot fetch %s: %s", address, answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxSums))
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", address, err)
	}
	return body, nil
}
