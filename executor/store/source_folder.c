#include <string.h>

#include "executor/base/alloc.h"
#include "executor/store/internal.h"

static const char layout[] =
    "a folder of images holds one folder per class: FOLDER/cat/1.png, FOLDER/dog/7.jpg, ...";

enum suffix { SUFFIX_OTHER, SUFFIX_IMAGE, SUFFIX_UNREADABLE };

static enum suffix suffix_of(const char *name)
{
    static const char *const readable[] = {".png", ".jpg", ".jpeg", ".webp"};
    static const char *const unreadable[] = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"};
    for (size_t i = 0; i < sizeof readable / sizeof readable[0]; i++) {
        if (ft_path_has_suffix(name, readable[i])) {
            return SUFFIX_IMAGE;
        }
    }
    for (size_t i = 0; i < sizeof unreadable / sizeof unreadable[0]; i++) {
        if (ft_path_has_suffix(name, unreadable[i])) {
            return SUFFIX_UNREADABLE;
        }
    }
    return SUFFIX_OTHER;
}

/* id and uri of an image are "class/name", or "name" without a class: the uri resolves against the folder. */
static enum ft_status add_image(struct ft_dataset *ds, const char *label, const char *name, const char *path,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    char *relative = NULL;
    struct ft_document doc = {.has_label = label[0] != '\0'};
    if (!ft_utf8_valid(ft_bytes_of_text(label)) || !ft_utf8_valid(ft_bytes_of_text(name))) {
        st = FT_FAIL(err, INVALID, "the name is not UTF-8");
        goto done;
    }
    FT_TRY(doc.has_label ? ft_path_join(label, name, &relative, err) : ft_new_text(name, &relative, err));
    FT_TRY(ft_dataset_keep(ds, ft_bytes_of_text(relative), &doc.id, err));
    FT_TRY(ft_dataset_keep(ds, ft_bytes_of_text(label), &doc.label, err));
    FT_TRY(ft_dataset_keep(ds, ft_bytes_of_text(path), &doc.content.bytes, err));
    doc.content.kind = FT_CONTENT_URI;
    FT_TRY(ft_dataset_add(ds, &doc, path, err));
done:
    ft_free(relative);
    return st;
}

static enum ft_status add_entry(struct ft_dataset *ds, const char *label, const char *name, const char *path,
                                struct ft_err *err)
{
    if (ft_path_kind(path) == FT_PATH_DIR) {
        return FT_FAIL(err, INVALID, "%.600s is a folder inside a class folder; %s", path, layout);
    }
    switch (suffix_of(name)) {
    case SUFFIX_IMAGE:
        if (add_image(ds, label, name, path, err) != FT_OK) {
            return ft_err_wrap(err, "%.600s", path);
        }
        return FT_OK;
    case SUFFIX_UNREADABLE:
        return FT_FAIL(err, UNSUPPORTED,
                       "%.600s: this image format is not read; convert it to PNG, JPEG or WebP", path);
    case SUFFIX_OTHER:
        break;
    }
    return FT_OK; /* notes and the like beside images */
}

static enum ft_status add_class(struct ft_dataset *ds, const char *dir, const char *label, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    size_t before = ds->count;
    char *path = NULL;
    FT_TRY(ft_dir_list(dir, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        if (list.names[i][0] == '.') {
            continue;
        }
        ft_free(path);
        path = NULL;
        FT_TRY(ft_path_join(dir, list.names[i], &path, err));
        FT_TRY(add_entry(ds, label, list.names[i], path, err));
    }
    if (ds->count == before) {
        st = FT_FAIL(err, INVALID, "the class folder %.600s holds no .png, .jpg, .jpeg or .webp", dir);
    }
done:
    ft_free(path);
    ft_dir_list_release(&list);
    return st;
}

enum ft_status ft_source_folder(struct ft_dataset *ds, const char *path, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_dir_list list = {0};
    char *entry = NULL;
    size_t classes = 0;
    FT_TRY(ft_dir_list(path, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.names[i];
        if (name[0] == '.') {
            continue;
        }
        ft_free(entry);
        entry = NULL;
        FT_TRY(ft_path_join(path, name, &entry, err));
        if (ft_path_kind(entry) == FT_PATH_DIR) {
            FT_TRY(add_class(ds, entry, name, err));
            classes++;
        } else if (!ds->need_labels) {
            FT_TRY(add_entry(ds, "", name, entry, err));
        } else if (suffix_of(name) != SUFFIX_OTHER) {
            st = FT_FAIL(err, INVALID, "%.600s is an image outside of a class folder; %s", entry, layout);
            goto done;
        }
    }
    if (classes == 0 && ds->count == 0) {
        st = FT_FAIL(err, INVALID, "%.600s has no folders in it; %s", path, layout);
    }
done:
    ft_free(entry);
    ft_dir_list_release(&list);
    return st;
}
