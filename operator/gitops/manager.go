package gitops

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-gitops"
