package source

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
)

// The keys of a Secret with credentials.
const (
	KeyUsername   = "username"
	KeyPassword   = "password"
	KeyPrivateKey = "sshPrivateKey"
	// KeyKnownHosts are the server's keys in the form of ssh_known_hosts. Without
	// them no server is believed over SSH.
	KeyKnownHosts = "knownHosts"
)

// Auth is how one shows who one is to the server of a URL, by the data of a Secret;
// nil data: nobody.
func Auth(url string, data map[string][]byte) (transport.AuthMethod, error) {
	endpoint, err := transport.NewEndpoint(url)
	if err != nil {
		return nil, fmt.Errorf("cannot understand the URL: %w", clean(err))
	}
	if endpoint.Protocol == "ssh" {
		user := endpoint.User
		if user == "" {
			user = gitssh.DefaultUsername
		}
		if len(data[KeyPrivateKey]) == 0 {
			return nil, fmt.Errorf("the URL is one of SSH: its Secret must have the key %s", KeyPrivateKey)
		}
		keys, err := gitssh.NewPublicKeys(user, data[KeyPrivateKey], "")
		if err != nil {
			return nil, fmt.Errorf("cannot read the key %s of the Secret: it must be a private key without a passphrase", KeyPrivateKey)
		}
		keys.HostKeyCallback = hostKeys(data[KeyKnownHosts])
		return keys, nil
	}
	if len(data[KeyPassword]) == 0 {
		return nil, nil
	}
	return &githttp.BasicAuth{Username: string(data[KeyUsername]), Password: string(data[KeyPassword])}, nil
}

// hostKeys believes a server that shows one of the keys in a text in the form of
// ssh_known_hosts(5), without hashed names.
func hostKeys(known []byte) ssh.HostKeyCallback {
	return func(hostname string, _ net.Addr, key ssh.PublicKey) error {
		host, port, err := net.SplitHostPort(hostname)
		if err != nil {
			host, port = hostname, "22"
		}
		wanted := []string{"[" + host + "]:" + port}
		if port == "22" {
			wanted = append(wanted, host)
		}
		for rest := known; len(rest) > 0; {
			_, hosts, is, _, next, err := ssh.ParseKnownHosts(rest)
			if err != nil {
				break
			}
			rest = next
			for _, h := range hosts {
				for _, w := range wanted {
					if h == w && bytes.Equal(is.Marshal(), key.Marshal()) {
						return nil
					}
				}
			}
		}
		return errors.New("the server's key is not known: put its line of ssh-keyscan under the key " + KeyKnownHosts + " of the Secret")
	}
}
