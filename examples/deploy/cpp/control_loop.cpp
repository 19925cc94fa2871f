// Runs the exported policy of the reacher with ONNX Runtime and MuJoCo: no Python.
//
//   kilolayer export runs/reacher --output reacher_policy
//   cmake -S examples/deploy/cpp -B build && cmake --build build
//   build/control_loop reacher_policy
//
// MuJoCo stands for the robot: `place`, `observe`, `tip` and `act` are what a real one needs anew.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <mujoco/mujoco.h>
#include <onnxruntime_cxx_api.h>

// What policy.json says of the reacher; the names of the entries are in it, too.
constexpr int kObservation = 10, kGoal = 3, kAction = 2;
constexpr double kControlStep = 0.02;      // environment.control_step, in seconds
constexpr int kEpisodeLength = 100;        // environment.episode_length
constexpr int kPhysicsSteps = 2;           // robot.physics_steps
constexpr double kSuccessDistance = 0.05;  // robot.success_distance, in metres
constexpr double kTolerance = 1e-4;        // exported.tolerance

using Clock = std::chrono::steady_clock;
using Vector = std::vector<float>;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

// A table of the export: rows of numbers, and for each part the place of its first column.
struct Table {
  std::vector<Vector> rows;
  std::map<std::string, int> first;

  explicit Table(const std::string& path) {
    std::ifstream file(path);
    std::string line, cell;
    if (!std::getline(file, line)) fail(path + " cannot be read");
    std::istringstream header(line);
    for (int column = 0; std::getline(header, cell, ','); ++column)
      if (cell.size() > 2 && cell.substr(cell.size() - 2) == "_0") first[cell.substr(0, cell.size() - 2)] = column;
    while (std::getline(file, line)) {
      std::istringstream stream(line);
      Vector row;
      while (std::getline(stream, cell, ',')) row.push_back(std::stof(cell));
      rows.push_back(row);
    }
  }

  Vector part(size_t row, const std::string& name, int size) const {
    auto begin = rows.at(row).begin() + first.at(name);
    return Vector(begin, begin + size);
  }
};

// The exported policy, on one thread that does not spin.
class Policy {
 public:
  explicit Policy(const std::string& path) : session_(environment_, path.c_str(), options()) {}

  Vector operator()(Vector& observation, Vector& goal) {
    const std::array<int64_t, 2> shapes[] = {{1, kObservation}, {1, kGoal}};
    const char* inputs[] = {"observation", "desired_goal"};
    const char* outputs[] = {"action"};
    Ort::Value values[] = {
        Ort::Value::CreateTensor<float>(memory_, observation.data(), observation.size(), shapes[0].data(), 2),
        Ort::Value::CreateTensor<float>(memory_, goal.data(), goal.size(), shapes[1].data(), 2)};
    auto found = session_.Run(Ort::RunOptions{nullptr}, inputs, values, 2, outputs, 1);
    const float* action = found[0].GetTensorData<float>();
    return Vector(action, action + kAction);
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    options.SetInterOpNumThreads(1);
    options.SetExecutionMode(ORT_SEQUENTIAL);
    options.AddConfigEntry("session.intra_op.allow_spinning", "0");
    return options;
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_WARNING, "policy"};
  Ort::Session session_;
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
};

// MuJoCo in place of the robot.
class Robot {
 public:
  explicit Robot(const std::string& path) {
    char error[500] = "";
    model_ = mj_loadXML(path.c_str(), nullptr, error, sizeof(error));
    if (!model_) fail(path + ": " + error);
    data_ = mj_makeData(model_);
    fingertip_ = mj_name2id(model_, mjOBJ_GEOM, "fingertip");
  }

  ~Robot() {
    mj_deleteData(data_);
    mj_deleteModel(model_);
  }

  void place(const Vector& qpos, const Vector& qvel) {
    mj_resetData(model_, data_);
    std::copy(qpos.begin(), qpos.end(), data_->qpos);
    std::copy(qvel.begin(), qvel.end(), data_->qvel);
    measure();
  }

  // An action from -1 to 1 is a control from -1 to 1 here (robot.control).
  void act(const Vector& action) {
    for (int i = 0; i < kAction; ++i) data_->ctrl[i] = std::clamp<double>(action[i], -1.0, 1.0);
    for (int i = 0; i < kPhysicsSteps; ++i) mj_step(model_, data_);
    measure();
  }

  Vector tip() const {
    const double* place = data_->geom_xpos + 3 * fingertip_;
    return Vector(place, place + 3);
  }

  // The observation, entry by entry as the contract names them.
  Vector observe() const {
    mjtNum velocity[6];
    mj_objectVelocity(model_, data_, mjOBJ_GEOM, fingertip_, velocity, 0);
    Vector found;
    for (int i = 0; i < 2; ++i) found.push_back(std::cos(data_->qpos[i]));
    for (int i = 0; i < 2; ++i) found.push_back(std::sin(data_->qpos[i]));
    for (float each : tip()) found.push_back(each);
    for (int i = 3; i < 6; ++i) found.push_back(velocity[i]);
    return found;
  }

 private:
  // What sensors would show; MuJoCo's own values are those before its last step.
  void measure() {
    mj_fwdPosition(model_, data_);
    mj_fwdVelocity(model_, data_);
  }

  mjModel* model_;
  mjData* data_;
  int fingertip_;
};

double distance(const Vector& one, const Vector& other) {
  double sum = 0.0;
  for (size_t i = 0; i < one.size(); ++i) sum += (one[i] - other[i]) * (one[i] - other[i]);
  return std::sqrt(sum);
}

int main(int argc, char** argv) {
  const char* usage = "usage: control_loop FOLDER [--realtime] [--rate HZ]";
  if (argc < 2) fail(usage);
  const std::string folder = argv[1];
  bool realtime = false;
  double seconds = kControlStep;
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--realtime") {
      realtime = true;
    } else if (flag == "--rate" && i + 1 < argc && std::atof(argv[i + 1]) > 0.0) {
      seconds = 1.0 / std::atof(argv[++i]);
    } else {
      fail(usage);
    }
  }
  Policy policy(folder + "/policy.onnx");

  const Table check(folder + "/check.csv");
  double largest = 0.0;
  for (size_t row = 0; row < check.rows.size(); ++row) {
    Vector observation = check.part(row, "observation", kObservation), goal = check.part(row, "desired_goal", kGoal);
    const Vector found = policy(observation, goal), expected = check.part(row, "action", kAction);
    for (int i = 0; i < kAction; ++i) largest = std::max<double>(largest, std::abs(found[i] - expected[i]));
  }
  if (!(largest <= kTolerance)) fail("actions differ from the library's by " + std::to_string(largest));
  std::printf("actions of this machine differ from the library's by %.1e at most\n", largest);

  Robot robot(folder + "/robot.xml");
  const Table episodes(folder + "/episodes.csv");
  const auto period = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::vector<double> milliseconds;
  int reached = 0, at_goal = 0, missed = 0;
  for (size_t episode = 0; episode < episodes.rows.size(); ++episode) {
    robot.place(episodes.part(episode, "qpos", 2), episodes.part(episode, "qvel", 2));
    Vector goal = episodes.part(episode, "desired_goal", kGoal);
    int steps = 0;
    auto deadline = Clock::now() + period;
    for (int step = 0; step < kEpisodeLength; ++step) {
      const auto began = Clock::now();
      Vector observation = robot.observe();
      const Vector action = policy(observation, goal);
      const auto ended = Clock::now();
      milliseconds.push_back(std::chrono::duration<double, std::milli>(ended - began).count());
      missed += ended > (realtime ? deadline : began + period);
      if (realtime) {
        std::this_thread::sleep_until(deadline);
        deadline = std::max(deadline, Clock::now()) + period;
      }
      robot.act(action);
      steps += distance(robot.tip(), goal) < kSuccessDistance;
    }
    reached += steps > 0;
    at_goal += steps;
  }

  std::sort(milliseconds.begin(), milliseconds.end());
  const auto quantile = [&](double q) { return milliseconds[static_cast<size_t>(q * (milliseconds.size() - 1))]; };
  const double count = static_cast<double>(episodes.rows.size());
  std::printf("  success_any  %.3f\n  time_at_goal %.1f\n", reached / count, at_goal / count);
  std::printf("  observation and action: median %.3f ms, 99 %% %.3f ms, 99.9 %% %.3f ms\n", quantile(0.5),
              quantile(0.99), quantile(0.999));
  std::printf("  %d of %zu deadlines of %g ms missed\n", missed, milliseconds.size(), 1e3 * seconds);
}
