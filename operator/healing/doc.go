// Package healing says which member of the cluster is sick, and does about it what
// the rules permit: step by step, one member at a time, written down before and
// after.
//
// Facts are gathered in one place (gather.go) and decided on by pure functions: the
// rules that refuse (rules.go, numbered as in docs/concepts/healing.md), the
// escalation (decide.go), the taint (fence.go), and the clock by which a member is
// seen sick (observe.go). What is done is thin (act.go), and the record of it has
// one home (record.go). To install a machine anew it asks the node controller, which
// keeps all guards of a removal.
package healing
