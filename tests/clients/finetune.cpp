// A client of finetuner.v1 in C++, with what protoc generates from proto/: one call of Finetune.
// finetune HOST:PORT DATA ARTIFACT EMBEDDINGS < options   (DATA: lines "label<TAB>number number ..."; options: lines "name value")
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "finetuner/v1/finetuner.grpc.pb.h"

namespace v1 = finetuner::v1;
using Stream = grpc::ClientReaderWriter<v1::FinetuneRequest, v1::FinetuneResponse>;

static v1::FinetuneConfig read_config(std::istream &in)
{
    v1::FinetuneConfig config;
    std::string name;
    double value = 0;
    while (in >> name >> value) {
        (*config.mutable_options()->mutable_fields())[name].set_number_value(value);
    }
    config.set_embeddings(true);
    config.set_artifact(true);
    return config;
}

static v1::Document read_document(const std::string &line, int number)
{
    v1::Document doc;
    std::istringstream words(line);
    std::string label;
    std::string data;
    float x = 0;
    unsigned count = 0;
    std::getline(words, label, '\t');
    for (; words >> x; count++) {
        data.append(reinterpret_cast<const char *>(&x), sizeof x); // little-endian machines only
    }
    doc.set_id(std::to_string(number));
    doc.set_label(label);
    doc.mutable_tensor()->set_dtype("<f4");
    doc.mutable_tensor()->add_shape(count);
    doc.mutable_tensor()->set_data(data);
    return doc;
}

// Sends while the answers are read: neither side waits for the other for ever.
static void send_all(Stream &stream, const char *path)
{
    std::ifstream data(path);
    std::string line;
    v1::FinetuneRequest request;
    *request.mutable_config() = read_config(std::cin);
    for (int i = 0; std::getline(data, line); i++) {
        *request.add_documents() = read_document(line, i);
        if (request.documents_size() == 16) {
            stream.Write(request);
            request.Clear();
        }
    }
    if (request.has_config() || request.documents_size() > 0) {
        stream.Write(request);
    }
    stream.WritesDone();
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        return 2;
    }
    auto stub = v1::Finetuner::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    auto stream = stub->Finetune(&context);
    std::thread sender([&] { send_all(*stream, argv[2]); });
    std::ofstream artifact(argv[3], std::ios::binary);
    std::ofstream embeddings(argv[4]);
    v1::FinetuneResponse answer;
    unsigned long long pushed = 0;
    while (stream->Read(&answer)) {
        pushed += answer.pushed().count();
        artifact << answer.artifact().data();
        for (const auto &e : answer.embeddings().embeddings()) {
            embeddings << e.id();
            for (float x : e.values()) {
                embeddings << ' ' << x;
            }
            embeddings << '\n';
        }
        if (answer.event().has_run()) {
            std::cout << answer.event().run().id() << ' ' << v1::Run::Status_Name(answer.event().run().status()) << ' ';
        }
    }
    sender.join();
    grpc::Status status = stream->Finish();
    std::cout << pushed << ' ' << status.error_code() << ' ' << status.error_message() << '\n';
    return 0;
}
