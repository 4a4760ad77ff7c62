package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Where a file came from, for the metrics.
const (
	fromHost   = "host"
	fromPeer   = "peer"
	fromSource = "source" // the URL in the manifests
)

// files fetches what machines need and serves it.
type files struct {
	cache    *media.Cache
	host     *hostFiles
	declared *declared
	archives []media.Source
	peers    func() []netip.AddrPort // the HTTP sides of the other PXE pods
	own      netip.AddrPort          // ours; it settles who asks the internet first
	sumsDir  string                  // where checksums of releases are kept
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time
	// changed rings when standings have.
	changed bell

	mu        sync.Mutex
	looked    bool // what is wanted was compared with what is here at least once
	want      wanted
	standings map[string]standing // by digest
	sizes     map[string]int64    // by digest, of files that are here
	asked     map[string]bool     // machines that want to be installed although they are members
	urls      map[string]string
	retry     map[string]time.Time
	failures  map[string]int
	busySince map[string]time.Time // since when a peer says that it is fetching a file
	opened    map[string]time.Time // when a file was last served
	working   map[string]bool
	busy      int // files of working
}

func newFiles(cache *media.Cache, dir string, imageDirs []string, d *declared, archives []media.Source, logger *slog.Logger, m *metrics, now func() time.Time) *files {
	f := &files{
		cache: cache, host: newHostFiles(imageDirs, logger), declared: d, archives: archives,
		peers: func() []netip.AddrPort { return nil }, logger: logger, metrics: m, now: now, sumsDir: dir,
		standings: map[string]standing{}, sizes: map[string]int64{}, asked: map[string]bool{}, urls: map[string]string{}, retry: map[string]time.Time{},
		failures: map[string]int{}, busySince: map[string]time.Time{}, opened: map[string]time.Time{}, working: map[string]bool{},
	}
	cache.OnRetry = func(src media.Source, err error, wait time.Duration) {
		logger.Warn("a download is tried again", "file", src.Name, "url", src.URL, "error", err, "in", wait.Round(time.Millisecond).String())
	}
	return f
}

// Open implements web.Media: a file that machines need and that is not here yet is
// a *pxe.NotNow.
func (f *files) Open(sha256 string) (io.ReadSeekCloser, int64, error) {
	file, size, err := f.cache.Open(sha256)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.opened[sha256] = f.now()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return file, size, err
	}
	if s, ok := f.standings[sha256]; ok {
		return nil, 0, &pxe.NotNow{Message: s.name + " is still being fetched; ask again", After: 10 * time.Second}
	}
	return nil, 0, err
}

// size of a file that is here, in bytes; zero: not known.
func (f *files) size(sha256 string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sizes[sha256]
}

// verdict is whether all that is needed is here.
func (f *files) verdict() (bool, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.looked {
		return false, "what machines need was not looked up yet"
	}
	return verdict(f.want, f.standings)
}

// lacking says what a machine needs and is not here; empty: nothing. A machine that
// was not waiting until now, such as a member that is installed anew, waits from now
// on.
func (f *files) lacking(node string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.want.of[node]; !known && f.want.problems[node] == "" {
		f.asked[node] = true
		f.changed.ring()
		return "it is being looked up which"
	}
	var names []string
	for _, digest := range f.want.of[node] {
		if s := f.standings[digest]; !s.here {
			names = append(names, s.name)
		}
	}
	if p := f.want.problems[node]; p != "" {
		names = append(names, p)
	}
	return strings.Join(names, ", ")
}

// workers is how many files are fetched at once: a slow source keeps the others
// waiting no longer than it must.
const workers = 2

// lookAgain is how often files are looked after although nothing changed.
const lookAgain = 5 * time.Second

// run fetches until ctx ends.
func (f *files) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { f.sweep(ctx) })
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		changed := f.declared.changed.rung()
		f.look(f.declared.current.Load())
		for r, address := range f.missingSums() {
			running.Go(func() { f.fetchSums(ctx, r, address) })
		}
		for _, source := range f.next() {
			running.Go(func() {
				f.fetch(ctx, source)
				f.changed.ring()
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-f.changed.rung():
		case <-ticker.C:
		}
	}
}

// look compares what is wanted with what is here.
func (f *files) look(s *snapshot) {
	f.mu.Lock()
	asked := maps.Clone(f.asked)
	f.mu.Unlock()
	w := want(s, f.archives, asked)
	here := map[string]int64{}
	for _, source := range w.files {
		if file, size, err := f.cache.Open(source.SHA256); err == nil {
			here[source.SHA256] = size
			_ = file.Close()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = s != nil
	f.want = w
	for _, source := range w.files {
		if old, ok := f.urls[source.SHA256]; ok && old != source.URL {
			delete(f.retry, source.SHA256) // somebody mended it
		}
		f.urls[source.SHA256] = source.URL
	}
	standings := map[string]standing{}
	for _, source := range w.files {
		digest := source.SHA256
		now := f.standings[digest]
		now.name = source.Name
		if size, ok := here[digest]; ok {
			now = standing{name: source.Name, here: true, done: size, total: size}
			f.sizes[digest] = size
		} else if now.here {
			now = standing{name: source.Name} // it was damaged or taken away
		}
		standings[digest] = now
	}
	f.standings = standings
	f.count()
}

// count tells the metrics how many files are wanted and missing; f.mu is held.
func (f *files) count() {
	missing := 0
	for _, s := range f.standings {
		if !s.here {
			missing++
		}
	}
	f.metrics.mediaMissing.Set(float64(missing))
	f.metrics.mediaWanted.Set(float64(len(f.standings)))
}

// next are the files to begin with now.
func (f *files) next() []media.Source {
	f.mu.Lock()
	defer f.mu.Unlock()
	var begin []media.Source
	for _, source := range f.want.files {
		digest := source.SHA256
		if f.standings[digest].here || f.working[digest] || f.now().Before(f.retry[digest]) {
			continue
		}
		if f.busy >= workers {
			break
		}
		f.busy++
		f.working[digest] = true
		begin = append(begin, source)
	}
	return begin
}

// errPeerFetches is a file that another PXE pod is fetching for both of us.
var errPeerFetches = errors.New("another PXE pod is fetching it")

// fetch gets one file, once, and notes how that went.
func (f *files) fetch(ctx context.Context, source media.Source) {
	digest := source.SHA256
	f.logger.Info("fetching a file", "file", source.Name, "sha256", digest)
	from, file, err := f.obtain(ctx, source)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.working, digest)
	f.busy--
	s, stillWanted := f.standings[digest]
	switch {
	case err == nil:
		s = standing{name: source.Name, here: true, done: file.Size, total: file.Size}
		f.sizes[digest] = file.Size
		delete(f.failures, digest)
		delete(f.retry, digest)
		delete(f.busySince, digest)
		f.logger.Info("a file is here and verified", "file", source.Name, "from", from, "bytes", file.Size)
	case ctx.Err() != nil:
		return
	case errors.Is(err, errPeerFetches):
		s.err = fmt.Errorf("%s: %w", source.Name, err)
		f.retry[digest] = f.now().Add(lookAgain)
	default:
		s.err, s.hopeless = err, hopeless(err)
		f.failures[digest]++
		wait := min(15*time.Second<<min(f.failures[digest]-1, 5), 5*time.Minute)
		f.retry[digest] = f.now().Add(wait)
		f.logger.Error("cannot fetch a file", "file", source.Name, "error", err, "again in", wait.String())
	}
	if stillWanted {
		f.standings[digest] = s
		f.count()
	}
}

// hopeless says whether the same try would fail again, for all that we know.
func hopeless(err error) bool {
	var checksum *media.ChecksumError
	var status *media.StatusError
	switch {
	case errors.Is(err, errNoSource), errors.As(err, &checksum):
		return true
	case errors.As(err, &status):
		return status.Code == http.StatusNotFound || status.Code == http.StatusGone || status.Code == http.StatusForbidden
	}
	return false
}

// errNoSource is a file that can be had nowhere.
var errNoSource = errors.New("there is nowhere to fetch it from")

// obtain gets a file into the cache: from the host's own files, else from another
// PXE pod, else from the URL in the manifests.
func (f *files) obtain(ctx context.Context, source media.Source) (from string, _ media.File, _ error) {
	if path, ok := f.host.find(ctx, source); ok {
		local := media.Source{URL: (&url.URL{Scheme: "file", Path: path}).String(), SHA256: source.SHA256, Name: source.Name}
		file, err := f.cache.Fetch(ctx, local, nil)
		if err == nil {
			f.metrics.mediaFetched.WithLabelValues(fromHost).Add(float64(file.Size))
			return fromHost, file, nil
		}
		f.logger.Warn("cannot take a file of this host", "path", path, "error", err)
	}
	wait := false
	for _, peer := range f.peers() {
		address := fmt.Sprintf("http://%s/media/%s/%s", peer, source.SHA256, url.PathEscape(source.Name))
		switch f.ask(ctx, address) {
		case http.StatusOK:
			local := media.Source{URL: address, SHA256: source.SHA256, Name: source.Name, Attempts: 2}
			file, err := f.cache.Fetch(ctx, local, f.progress(source, fromPeer))
			if err == nil {
				return fromPeer, file, nil
			}
			f.logger.Warn("cannot take a file from another PXE pod", "url", address, "error", err)
		case http.StatusServiceUnavailable:
			// Both of us want it and neither has it: the lower address asks the internet.
			wait = wait || peer.Compare(f.own) < 0
		}
	}
	if wait && f.patient(source.SHA256) {
		return "", media.File{}, errPeerFetches
	}
	switch u, err := url.Parse(source.URL); {
	case err != nil:
		return "", media.File{}, fmt.Errorf("%w: %w", errNoSource, err)
	case source.URL == "":
		return "", media.File{}, fmt.Errorf("%s: %w: it has no URL, no directory of this host holds it (--image-dir), and no other PXE pod has it", source.Name, errNoSource)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", media.File{}, fmt.Errorf("%s: %w: %s is a file of the machine that the cluster was founded from; declare an http or https URL that the cluster's members can reach",
			source.Name, errNoSource, source.URL)
	}
	file, err := f.cache.Fetch(ctx, source, f.progress(source, fromSource))
	return fromSource, file, err
}

// peerPatience is how long another PXE pod may be fetching a file before we fetch it
// ourselves.
const peerPatience = 5 * time.Minute

func (f *files) patient(digest string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busySince[digest].IsZero() {
		f.busySince[digest] = f.now()
	}
	return f.now().Sub(f.busySince[digest]) < peerPatience
}

// ask is the status that a peer has for a file; 0: it does not answer.
func (f *files) ask(ctx context.Context, address string) int {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return 0
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// progress notes and counts what has come.
func (f *files) progress(source media.Source, from string) func(done, total int64) {
	last, told := int64(-1), f.now()
	return func(done, total int64) {
		if last >= 0 && done > last {
			f.metrics.mediaFetched.WithLabelValues(from).Add(float64(done - last))
		}
		last = done
		f.mu.Lock()
		if s, ok := f.standings[source.SHA256]; ok && !s.here {
			s.done, s.total, s.err, s.hopeless = done, total, nil, false
			f.standings[source.SHA256] = s
		}
		f.mu.Unlock()
		if now := f.now(); now.Sub(told) >= 10*time.Second {
			told = now
			f.logger.Info("fetching a file", "file", source.Name, "from", from, "bytes", done, "of", total)
		}
	}
}
