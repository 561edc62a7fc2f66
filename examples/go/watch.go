package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tasksv1 "example.com/tasks/gen/tasks/v1"
)

const (
	// silence is how long a stream may say nothing: the service sends a heartbeat every 15 seconds.
	silence = 45 * time.Second
	// firstWait and longestWait bound the time before a broken stream is opened again.
	firstWait   = 250 * time.Millisecond
	longestWait = 10 * time.Second
)

var errSilent = errors.New("the stream is silent")

// watch prints the tasks that match a query and how they change, until ctx is done.
//
// A stream that breaks is resumed behind the last message that was received. Where that cannot be, all that is known is
// forgotten and told anew.
func watch(ctx context.Context, client tasksv1.TasksServiceClient, query string) error {
	tasks := map[string]*tasksv1.Task{}
	token, wait := "", firstWait
	handle := func(message *tasksv1.WatchTasksResponse) {
		switch event := message.GetEvent().(type) {
		case *tasksv1.WatchTasksResponse_Upserted:
			tasks[event.Upserted.GetId()] = event.Upserted
			fmt.Println("upserted\t" + line(event.Upserted))
		case *tasksv1.WatchTasksResponse_Removed:
			delete(tasks, event.Removed.GetId())
			fmt.Println("removed\t" + event.Removed.GetId())
		case *tasksv1.WatchTasksResponse_Synced:
			fmt.Printf("synced\t%d tasks\n", len(tasks))
		}
		token, wait = message.GetResumeToken(), firstWait
	}

	for {
		request := &tasksv1.WatchTasksRequest{Query: query, ResumeToken: token, IncludeInitial: token == ""}
		err := stream(ctx, client, request, handle)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case cannotResume(err, token):
			clear(tasks)
			token = ""
			fmt.Println("restarted")
		case !isBroken(err):
			return err
		}
		// Half of it is random, so that the clients of a service that has restarted do not all come back at once.
		pause := wait/2 + rand.N(wait/2)
		fmt.Fprintf(os.Stderr, "tasks: %v; again in %v\n", err, pause.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		wait = min(2*wait, longestWait)
	}
}

// stream opens one stream and hands its messages to handle. It returns when the stream ends, always with an error.
func stream(
	ctx context.Context,
	client tasksv1.TasksServiceClient,
	request *tasksv1.WatchTasksRequest,
	handle func(*tasksv1.WatchTasksResponse),
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	messages, err := client.WatchTasks(ctx, request)
	if err != nil {
		return err
	}
	// The other end may be gone without a word.
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer timer.Stop()
	for {
		message, err := messages.Recv()
		if context.Cause(ctx) == errSilent {
			return errSilent
		}
		if err != nil {
			return err
		}
		timer.Reset(silence)
		handle(message)
	}
}

// cannotResume tells whether a stream that ended so has to begin without its token.
func cannotResume(err error, token string) bool {
	code := status.Code(err)
	// The query was good before: what is invalid now can be the token alone. If not, the same comes again without one.
	return code == codes.OutOfRange || code == codes.InvalidArgument && token != ""
}

// isBroken tells whether a stream that ended so can be resumed.
func isBroken(err error) bool {
	if err == io.EOF || err == errSilent {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.Canceled, codes.Internal, codes.Unknown: // what becomes of a stream that a proxy has cut
		return true
	default:
		return false
	}
}
