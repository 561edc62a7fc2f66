package example;

import static java.util.concurrent.TimeUnit.SECONDS;

import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import tasks.v1.Tasks.GetTaskRequest;
import tasks.v1.Tasks.ListTasksRequest;
import tasks.v1.Tasks.Task;
import tasks.v1.Tasks.TaskName;
import tasks.v1.Tasks.WatchTasksRequest;
import tasks.v1.Tasks.WatchTasksResponse;
import tasks.v1.TasksServiceGrpc;
import tasks.v1.TasksServiceGrpc.TasksServiceBlockingV2Stub;

/** The tasks that the owner of a session token may read. */
final class TasksClient {
  /** How long a call may take, with all its retries. */
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(10);

  /** How long a stream may say nothing: the service sends a heartbeat every 15 seconds. */
  private static final Duration SILENCE = Duration.ofSeconds(45);

  /** The time before a broken stream is opened again. */
  private static final Duration FIRST_WAIT = Duration.ofMillis(250);

  private static final Duration LONGEST_WAIT = Duration.ofSeconds(10);

  /** How a stream ends that can be resumed: the service stops, or a proxy has cut it. */
  private static final Set<Status.Code> BROKEN =
      EnumSet.of(Status.Code.UNAVAILABLE, Status.Code.CANCELLED, Status.Code.INTERNAL, Status.Code.UNKNOWN);

  private static final Metadata.Key<String> SESSION_TOKEN =
      Metadata.Key.of("coder-session-token", Metadata.ASCII_STRING_MARSHALLER);

  private final TasksServiceBlockingV2Stub stub;

  TasksClient(ManagedChannel channel, String token) {
    Metadata headers = new Metadata();
    headers.put(SESSION_TOKEN, token);
    stub = TasksServiceGrpc.newBlockingV2Stub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** Passes on the tasks that match a query, page by page. */
  void list(String query, Consumer<Task> consumer) throws StatusException {
    ListTasksRequest.Builder request = ListTasksRequest.newBuilder().setQuery(query).setPageSize(200);
    do {
      var page = stub.withDeadlineAfter(CALL_TIMEOUT).listTasks(request.build());
      page.getTasksList().forEach(consumer);
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
  }

  /** Gets a task by its owner, such as "me", and its name. */
  Task get(String owner, String name) throws StatusException {
    var request = GetTaskRequest.newBuilder().setName(TaskName.newBuilder().setOwner(owner).setName(name)).build();
    return stub.withDeadlineAfter(CALL_TIMEOUT).getTask(request).getTask();
  }

  /** What {@link #watch} tells. */
  interface Watcher {
    /** Something has happened to a task, or all of them are known. */
    void onMessage(WatchTasksResponse message);

    /** All tasks that are known must be forgotten; they are told anew. */
    void onRestart();

    /** The stream is broken, and is opened again after a pause. */
    void onBroken(String reason, Duration pause);
  }

  /**
   * Tells what happens to the tasks that match a query, beginning with what they are, until the thread is interrupted.
   *
   * <p>A stream that breaks is resumed behind the last message that was received. Where that cannot be, the watcher is told to
   * forget all that it knows.
   */
  void watch(String query, Watcher watcher) throws StatusException, InterruptedException {
    String token = "";
    Duration wait = FIRST_WAIT;
    while (true) {
      String reason = "the stream has ended";
      var call = stub.watchTasks(WatchTasksRequest.newBuilder()
          .setQuery(query)
          .setResumeToken(token)
          .setIncludeInitial(token.isEmpty())
          .build());
      try {
        // The other end may be gone without a word.
        for (WatchTasksResponse message; (message = call.read(SILENCE.toSeconds(), SECONDS)) != null; ) {
          token = message.getResumeToken();
          wait = FIRST_WAIT;
          watcher.onMessage(message);
        }
      } catch (TimeoutException silent) {
        reason = "the stream is silent";
      } catch (StatusException end) {
        reason = end.getMessage();
        if (cannotResume(end.getStatus().getCode(), token)) {
          token = "";
          watcher.onRestart();
        } else if (!BROKEN.contains(end.getStatus().getCode())) {
          throw end;
        }
      } finally {
        call.cancel("done with it", null);
      }
      // Half of it is random, so that the clients of a service that has restarted do not all come back at once.
      long millis = wait.toMillis();
      Duration pause = Duration.ofMillis(ThreadLocalRandom.current().nextLong(millis / 2, millis));
      watcher.onBroken(reason, pause);
      Thread.sleep(pause.toMillis());
      wait = wait.multipliedBy(2).compareTo(LONGEST_WAIT) < 0 ? wait.multipliedBy(2) : LONGEST_WAIT;
    }
  }

  /** Whether a stream that ended so has to begin without its token. */
  private static boolean cannotResume(Status.Code code, String token) {
    // The query was good before: what is invalid now can be the token alone. If not, the same comes again without one.
    return code == Status.Code.OUT_OF_RANGE || code == Status.Code.INVALID_ARGUMENT && !token.isEmpty();
  }
}
