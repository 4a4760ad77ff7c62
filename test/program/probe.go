//go:build linux

package program

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Answers is a probe that a GET of the address is answered with 200.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
			return fmt.Errorf("%s: %s: %s", url, answer.Status, body)
		}
		return nil
	}
}
