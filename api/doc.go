// Package api holds toklip's wire formats: what a client needs to read the messages
// of a node and to send it commands. It depends on nothing else of toklip.
//
// A node publishes three kinds of things over MQTT:
//
//   - documents: small JSON texts, mostly retained, such as [Info], [State] and
//     [CameraStatus];
//   - frame messages: tokens, embedding, features and labels of one camera frame, as
//     protobuf (package toklipv1) and, on topics of their own, as JSON twins;
//   - events, as JSON: [LabelEvent].
//
// [ParseTopic] tells what a topic carries and [Topics] builds the names. A frame
// message is read with proto.Unmarshal and the helpers here:
//
//	var m toklipv1.Tokens
//	if err := proto.Unmarshal(payload, &m); err != nil { … }
//	ids, err := api.TokenIDs(nil, &m)   // 256 ids, row by row
//
// The formats are specified in toklip/v1/toklip.proto and asyncapi.yaml beside this
// package.
//
// All functions may be called from several goroutines. Append functions add to the
// slice they get and return it, as append does; they allocate only to grow it.
package api

// Schema is the major version of the frame messages and documents, found in every
// header and in [Info].
const Schema = 1
