package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmpExecute runs one command of the QEMU Machine Protocol on the socket at
// path and stores its result in result, unless that is nil. A connection for
// each command keeps the socket free for others.
func qmpExecute(ctx context.Context, path, command string, result any) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("cannot reach the machine's monitor: %w", err)
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}

	replies := json.NewDecoder(conn)
	var greeting struct{ QMP json.RawMessage }
	if err := replies.Decode(&greeting); err != nil || greeting.QMP == nil {
		return fmt.Errorf("the machine's monitor does not greet: %w", err)
	}
	for _, step := range []struct {
		command string
		result  any
	}{{"qmp_capabilities", nil}, {command, result}} {
		if err := json.NewEncoder(conn).Encode(map[string]string{"execute": step.command}); err != nil {
			return fmt.Errorf("cannot send %s to the machine's monitor: %w", step.command, err)
		}
		if err := qmpReply(replies, step.result); err != nil {
			return fmt.Errorf("%s: %w", step.command, err)
		}
	}
	return nil
}

// qmpReply reads up to the next reply, past the events that come in between.
func qmpReply(replies *json.Decoder, result any) error {
	for {
		var reply struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := replies.Decode(&reply); err != nil {
			return fmt.Errorf("the machine's monitor breaks off: %w", err)
		}
		switch {
		case reply.Error != nil:
			return fmt.Errorf("the machine refuses: %s", reply.Error.Desc)
		case reply.Return != nil && result != nil:
			return json.Unmarshal(reply.Return, result)
		case reply.Return != nil:
			return nil
		}
	}
}
