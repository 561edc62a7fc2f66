package example;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import tasks.v1.Tasks.Task;
import tasks.v1.Tasks.WatchTasksResponse;

/**
 * Lists, gets and watches the tasks of a tasks-service: {@code list [QUERY]}, {@code get OWNER/NAME}, {@code watch [QUERY]}.
 *
 * <p>{@code TASKS_ADDRESS} is host:port, or https://host:port for TLS; {@code TASKS_TOKEN} is a session token.
 */
public final class Main {
  private Main() {}

  public static void main(String[] args) throws Exception {
    String command = args.length > 0 ? args[0] : "";
    String argument = args.length > 1 ? args[1] : "";
    ManagedChannel channel = openChannel(System.getenv().getOrDefault("TASKS_ADDRESS", "127.0.0.1:50051"));
    var client = new TasksClient(channel, System.getenv().getOrDefault("TASKS_TOKEN", ""));
    try {
      switch (command) {
        case "list" -> client.list(argument, task -> System.out.println(line(task)));
        case "get" -> {
          String[] parts = argument.split("/", 2);
          System.out.println(line(client.get(parts[0], parts.length > 1 ? parts[1] : "")));
        }
        case "watch" -> client.watch(argument, new Printer());
        default -> throw new IllegalArgumentException("usage: list [QUERY] | get OWNER/NAME | watch [QUERY]");
      }
    } catch (StatusException | IllegalArgumentException error) {
      System.err.println("tasks: " + error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  /** Opens a channel that uses all servers in turn, and retries what is UNAVAILABLE. */
  private static ManagedChannel openChannel(String address) throws IOException {
    boolean secure = address.startsWith("https://");
    ChannelCredentials credentials = secure ? TlsChannelCredentials.create() : InsecureChannelCredentials.create();
    String target = secure ? address.substring("https://".length()) : address;
    return Grpc.newChannelBuilder(target, credentials).defaultServiceConfig(serviceConfig()).build();
  }

  private static Map<String, ?> serviceConfig() throws IOException {
    try (var stream = Main.class.getResourceAsStream("/tasks_grpc_service_config.json")) {
      return new Gson().fromJson(new InputStreamReader(stream, UTF_8), new TypeToken<Map<String, ?>>() {}.getType());
    }
  }

  /** A task on one line: its id, owner and name, status, and the state that its agent has reported. */
  private static String line(Task task) {
    String state = task.hasCurrentState() ? task.getCurrentState().getState().name() : "-";
    return String.join("\t", task.getId(), task.getOwnerName() + "/" + task.getName(), task.getStatus().name(), state);
  }

  /** Prints each change, and knows the tasks as they are now. */
  private static final class Printer implements TasksClient.Watcher {
    private final Map<String, Task> tasks = new HashMap<>();

    @Override
    public void onMessage(WatchTasksResponse message) {
      switch (message.getEventCase()) {
        case UPSERTED -> {
          tasks.put(message.getUpserted().getId(), message.getUpserted());
          System.out.println("upserted\t" + line(message.getUpserted()));
        }
        case REMOVED -> {
          tasks.remove(message.getRemoved().getId());
          System.out.println("removed\t" + message.getRemoved().getId());
        }
        case SYNCED -> System.out.printf("synced\t%d tasks%n", tasks.size());
        default -> {} // a heartbeat, or what only newer clients know
      }
    }

    @Override
    public void onRestart() {
      tasks.clear();
      System.out.println("restarted");
    }

    @Override
    public void onBroken(String reason, Duration pause) {
      System.err.printf("tasks: %s; again in %d ms%n", reason, pause.toMillis());
    }
  }
}
