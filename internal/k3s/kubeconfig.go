package k3s

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig is a client configuration of one cluster, user and context, all
// named name. server is the API server's URL; serverCA, certificate and key are
// PEM. It holds a secret: keep it with mode 0600.
func Kubeconfig(name, server string, serverCA, certificate, key []byte) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: serverCA}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	out, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("cannot write the kubeconfig of %s: %w", server, err)
	}
	return out, nil
}
