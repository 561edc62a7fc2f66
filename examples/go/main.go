// Command tasks lists, gets and watches the tasks of a tasks-service.
//
//	tasks list [QUERY]
//	tasks get OWNER/NAME
//	tasks watch [QUERY]
//
// TASKS_ADDRESS is host:port, or https://host:port for TLS; TASKS_TOKEN is a session token.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	tasksv1 "example.com/tasks/gen/tasks/v1"
)

//go:generate buf generate ../../proto
//go:generate cp ../../proto/tasks/v1/tasks_grpc_service_config.json gen/

// serviceConfig tells gRPC to use all servers in turn, and to retry what is UNAVAILABLE.
//
//go:embed gen/tasks_grpc_service_config.json
var serviceConfig string

// callTimeout is how long a call may take, with all its retries.
const callTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "tasks: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	conn, err := dial(cmp.Or(os.Getenv("TASKS_ADDRESS"), "127.0.0.1:50051"), os.Getenv("TASKS_TOKEN"))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := tasksv1.NewTasksServiceClient(conn)

	args = append(args, "", "")
	switch command, argument := args[0], args[1]; command {
	case "list":
		for task, err := range list(ctx, client, argument) {
			if err != nil {
				return err
			}
			fmt.Println(line(task))
		}
		return nil
	case "get":
		task, err := get(ctx, client, argument)
		if err != nil {
			return err
		}
		fmt.Println(line(task))
		return nil
	case "watch":
		return watch(ctx, client, argument)
	default:
		return errors.New("usage: tasks list [QUERY] | get OWNER/NAME | watch [QUERY]")
	}
}

// dial makes a connection that sends the token with each call.
func dial(address, token string) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if host, ok := strings.CutPrefix(address, "https://"); ok {
		address, transport = host, credentials.NewTLS(nil)
	}
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(sessionToken(token)),
		grpc.WithDefaultServiceConfig(serviceConfig),
	)
}

// sessionToken is the caller's session token, as credentials of each call.
type sessionToken string

func (t sessionToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"coder-session-token": string(t)}, nil
}

// RequireTransportSecurity allows clear text, which a service on the same machine speaks.
func (sessionToken) RequireTransportSecurity() bool { return false }

// list yields the tasks that match a query, page by page. An error is the last thing it yields.
func list(ctx context.Context, client tasksv1.TasksServiceClient, query string) iter.Seq2[*tasksv1.Task, error] {
	return func(yield func(*tasksv1.Task, error) bool) {
		request := &tasksv1.ListTasksRequest{Query: query, PageSize: 200}
		for {
			page, err := listPage(ctx, client, request)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, task := range page.GetTasks() {
				if !yield(task, nil) {
					return
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

func listPage(ctx context.Context, client tasksv1.TasksServiceClient, request *tasksv1.ListTasksRequest) (*tasksv1.ListTasksResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return client.ListTasks(ctx, request)
}

// get gets a task by its owner and name, as in "me/fix-login".
func get(ctx context.Context, client tasksv1.TasksServiceClient, ownerAndName string) (*tasksv1.Task, error) {
	owner, name, ok := strings.Cut(ownerAndName, "/")
	if !ok {
		return nil, fmt.Errorf("%q is not OWNER/NAME", ownerAndName)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := client.GetTask(ctx, &tasksv1.GetTaskRequest{
		Identifier: &tasksv1.GetTaskRequest_Name{Name: &tasksv1.TaskName{Owner: owner, Name: name}},
	})
	return response.GetTask(), err
}

// line is a task on one line: its id, owner and name, status, and the state that its agent has reported.
func line(task *tasksv1.Task) string {
	state := "-"
	if current := task.GetCurrentState(); current != nil {
		state = current.GetState().String()
	}
	return strings.Join([]string{task.GetId(), task.GetOwnerName() + "/" + task.GetName(), task.GetStatus().String(), state}, "\t")
}
