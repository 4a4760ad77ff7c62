// Package provision turns a declared Node, its OperatingSystem and its Cluster
// into what network boot asks for: a boot decision, an init config and, in
// exchange for a claim, the credentials to found or join the cluster.
package provision
